//! throwaway
use maitred::analysis::{near::NearSettings, reader::*};
use maitred::config::{Config, Override};
use maitred::runtime::Runtime;
use maitred::scheduler::*;
#[tokio::main]
async fn main() {
    let args: Vec<String> = std::env::args().collect();
    let (file, model, lang, out, only) = (&args[1], &args[2], &args[3], &args[4], args.get(5));
    let config =
        Config::load(None, &[], &[Override { key: "models.language", flag: "--m", value: model.clone() }])
            .unwrap();
    let read = ReadSettings {
        near: NearSettings { threshold: -100.0, slack: 1000.0, nearest: 1 },
        label: LabelSource::Both,
        max_review_tokens: 384,
    };
    let rt = Runtime::start(&config.settings, read).await.unwrap();
    let lang: maitred::job::Language = lang.parse().unwrap();
    let r = rt.reader.language(lang).await.unwrap();
    let only: Option<std::collections::HashSet<String>> =
        only.map(|f| std::fs::read_to_string(f).unwrap().lines().map(str::to_owned).collect());
    use std::io::Write;
    let mut w = std::io::BufWriter::new(std::fs::File::create(out).unwrap());
    let mut seeds = vec![];
    for a in &r.pack.aspects {
        let t: Vec<&str> = a.seeds.iter().map(String::as_str).collect();
        seeds.push(
            rt.reader
                .embed(r, &t)
                .await
                .unwrap()
                .into_iter()
                .map(|v| v.unwrap().as_slice().to_vec())
                .collect::<Vec<_>>(),
        );
    }
    writeln!(
        w,
        "{}",
        serde_json::json!({"seeds": seeds, "names": r.pack.aspect_names(), "cal": r.calibration})
    )
    .unwrap();
    for line in std::fs::read_to_string(file).unwrap().lines() {
        let v: serde_json::Value = serde_json::from_str(line).unwrap();
        let reviews: Vec<&serde_json::Value> = v["reviews"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|x| only.as_ref().is_none_or(|o| o.contains(x["id"].as_str().unwrap())))
            .collect();
        if reviews.is_empty() {
            continue;
        }
        let texts: Vec<&str> = reviews.iter().map(|x| x["text"].as_str().unwrap()).collect();
        let at =
            Arrival { at: Seconds::from(rt.reader.engine().now()), cost: Seconds::ZERO, lane: Lane::Live };
        let reading = rt.reader.read(r, &texts, at).await;
        for (x, f) in reviews.iter().zip(reading.facts) {
            let f = f.unwrap();
            let clauses: Vec<_> = f.clauses.iter().map(|c| serde_json::json!({"s": c.start, "e": c.end, "p": c.p_positive, "v": maitred::selection::vector::UnitVector::from_f16_bytes(&c.vector).map(|v| v.as_slice().iter().map(|x| (x*1e4).round()/1e4).collect::<Vec<f32>>())})).collect();
            writeln!(w, "{}", serde_json::json!({"rest": v["restaurant_id"], "id": x["id"], "rating": x["rating"], "text": x["text"], "p": f.p_positive, "tokens": f.tokens, "clauses": clauses})).unwrap();
        }
        eprintln!("{} {:?}", v["restaurant_id"], rt.reader.engine().stats().core);
    }
}
