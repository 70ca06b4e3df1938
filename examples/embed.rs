//! throwaway
use maitred::config::{Config, Override};
use maitred::runtime::*;
#[tokio::main]
async fn main() {
    let a: Vec<String> = std::env::args().collect();
    let config = Config::load(
        None,
        &[],
        &[Override { key: "models.language", flag: "--m", value: "smollm2-135m".into() }],
    )
    .unwrap();
    let rt = Runtime::start(&config.settings, read_settings(&config.settings)).await.unwrap();
    let r = rt.reader.language(a[1].parse().unwrap()).await.unwrap();
    let lines: Vec<String> = std::io::stdin().lines().map(|l| l.unwrap()).collect();
    let t: Vec<&str> = lines.iter().map(String::as_str).collect();
    for v in rt.reader.embed(r, &t).await.unwrap() {
        println!("{}", serde_json::to_string(v.unwrap().as_slice()).unwrap());
    }
}
