//! The study as text: what a person reads first.

use std::fmt::Write as _;

use super::Body;

/// Everything, as Markdown. Writing to a `String` cannot fail.
pub(super) fn all(body: &Body) -> String {
    let mut text = String::new();
    about(body, &mut text);
    fleets(body, &mut text);
    text
}

fn about(body: &Body, out: &mut String) {
    let (options, model, rules) = (&body.options, &body.options.model, &body.options.rules);
    let _ = writeln!(
        out,
        "SIMULATED: fleets through a day of {} hours on a virtual clock; {:?} jobs (seeds {:?}), the busiest hour keeps {} \
         workers busy.\nA job alone on a worker takes {:?} s (small, medium, large; shares {:?}), its first answer {} s; \
         a worker has {} slots, is ready after {} s and drains for {} s at most.\nKEDA looks every {} s, the HPA every {} s; \
         {} jobs for each worker, cooldown {} s, stabilization {} s, {} to {} workers. In time: first answer within {} s.\n",
        options.day.seconds() / 3600.0,
        body.jobs,
        options.seeds,
        options.peak_workers,
        model.seconds,
        model.shares,
        model.first,
        model.slots,
        model.start,
        model.grace,
        rules.polling,
        rules.sync,
        rules.lag_per_worker,
        rules.cooldown,
        rules.stabilization,
        rules.min,
        rules.max,
        options.sla,
    );
}

fn fleets(body: &Body, out: &mut String) {
    let priced = body.options.price.is_some();
    let _ = writeln!(
        out,
        "| fleet | worker hours |{} in time | first answer p50 | p95 | small p95 | reaction p50 | longest | behind | starts | most | cut |\n\
         |---|---|{}---|---|---|---|---|---|---|---|---|---|",
        if priced { " cost |" } else { "" },
        if priced { "---|" } else { "" },
    );
    for row in &body.rows {
        let cost = row.cost.map(|cost| format!(" {cost:.2} |")).unwrap_or_default();
        let _ = writeln!(
            out,
            "| {} | {:.1} |{cost} {:.1} % | {:.1} s | {:.1} s | {:.1} s | {:.0} s | {:.0} s | {:.1} % | {:.0} | {:.0} | {:.0} |",
            row.policy.name(body.options.rules),
            row.worker_hours,
            100.0 * row.compliance,
            row.ttft_p50,
            row.ttft_p95,
            row.small_p95,
            row.reaction_p50,
            row.reaction_max,
            100.0 * row.behind,
            row.starts,
            row.most,
            row.cut,
        );
    }
    let _ = writeln!(
        out,
        "\nReaction: from more lag for each ready worker than the rules want, waiting and in hand, until it is back; \
         behind: the share of the time in which it is so. Cut: jobs that outlasted a drain and began again."
    );
}
