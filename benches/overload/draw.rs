//! A run as a picture, and as a table for whoever looks closer.

use std::{fmt::Write, path::Path};

use super::{
    judge::Outcome,
    look::Look,
    plot::{self, Panel},
    scenarios::Scenario,
};

/// Goodput, limit, window and backlog over time, into `target/overload/`.
pub fn draw(scenario: &Scenario, outcomes: &[Outcome]) {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap_or(Path::new("target")).join("overload");
    let written = std::fs::create_dir_all(&folder).and_then(|()| {
        for outcome in outcomes {
            let name = format!("{}-{:?}.csv", scenario.name, outcome.policy);
            std::fs::write(folder.join(name), table(&outcome.looks))?;
        }
        let names: Vec<&str> = outcomes.iter().map(|outcome| outcome.policy.name()).collect();
        let title = format!("{}: {}", scenario.name, scenario.what);
        plot::write(&folder.join(format!("{}.svg", scenario.name)), &title, &names, &panels(outcomes))
    });
    match written {
        Ok(()) => eprintln!("{}/{}.svg", folder.display(), scenario.name),
        Err(error) => eprintln!("no picture: {error}"),
    }
}

fn panels(outcomes: &[Outcome]) -> Vec<Panel> {
    let until = outcomes.iter().filter_map(|outcome| outcome.looks.last()).map(|look| look.at).fold(0.0, f64::max);
    let goodput =
        |outcome: &Outcome| (0..until as u32).map(|at| (f64::from(at) + 0.5, outcome.goodput(at.into(), f64::from(at) + 1.0))).collect();
    let of_looks = |title: &str, value: fn(&Look) -> f64| Panel {
        title: title.to_owned(),
        lines: outcomes.iter().map(|outcome| outcome.looks.iter().map(|look| (look.at, value(look))).collect()).collect(),
    };
    let panels = vec![
        Panel { title: "answers of the backend per second, to clients".into(), lines: outcomes.iter().map(goodput).collect() },
        of_looks("requests at the backend", |look| look.at_backend),
        of_looks("limit", |look| look.limit),
        of_looks("window of replay", |look| look.window),
        of_looks("queued", |look| look.queued + look.delivering),
    ];
    panels.into_iter().filter(|panel| panel.lines.iter().flatten().any(|point| point.1 > 0.0)).collect()
}

fn table(looks: &[Look]) -> String {
    let mut text = "seconds,limit,in_flight,slowdown,base_seconds,window,delivering,queued,sheds,at_backend\n".to_owned();
    for look in looks {
        let Look { at, limit, in_flight, slowdown, base, window, delivering, queued, sheds, at_backend } = look;
        let sheds = u8::from(*sheds);
        let _ = writeln!(text, "{at:.2},{limit},{in_flight},{slowdown:.2},{base:.4},{window},{delivering},{queued},{sheds},{at_backend}");
    }
    text
}
