//! How long the gradients of each dataset's examples are.

use anyhow::Result;

use crate::chart::{Name, Plot};
use crate::contract::figures::section::GRADIENTS;
use crate::contract::figures::words::spread;
use crate::contract::figures::{Drawn, Figures, Level, Reads, Tables};

pub const FIGURES: Figures = Figures {
    section: &GRADIENTS,
    level: Level::Detail,
    reads: &[Reads {
        stage: "gradient_summary",
        columns: &["module", "n", "min", "whisker_low", "q1", "median", "q3", "whisker_high", "max"],
    }],
    draw,
};

/// Weight matrices drawn.
const MODULES: usize = 6;

fn draw(tables: &Tables) -> Result<Drawn> {
    let rows = tables.rows("gradient_summary")?;
    let modules = rows.groups(&["module"]);
    if modules.is_empty() {
        return Ok(Drawn::default());
    }
    let shown = spread(&modules, MODULES);
    let mut plot = Plot::boxes("", "gradient norm").own_scales();
    for (rank, (module, rows)) in shown.iter().enumerate() {
        for row in rows.iter() {
            plot.add(Name::new(rank, &module[0]), row.name("model"), row.name("dataset"), row.box_plot());
        }
    }
    let of = match (shown.len(), modules.len()) {
        (1, 1) => "one weight matrix".into(),
        (shown, all) if shown == all => format!("{all} weight matrices"),
        (shown, all) => format!("{shown} of {all} weight matrices"),
    };
    let names: Vec<&str> = modules.iter().map(|(module, _)| module[0].as_str()).collect();
    let figure = rows
        .figure(
            "gradient norms",
            "How strongly would the examples of each dataset change the model?".into(),
            "model, dataset, module, n, min, whisker_low, q1, median, q3, whisker_high, max",
            "module, dataset, model",
        )
        .what(format!(
            "Norm of each example's gradient for {of}: box plots (middle half; whiskers to the furthest value within 1.5 \
             times its height; dots for the least and the greatest beyond). Weights with gradients: {}.",
            names.join(", ")
        ))
        .n(format!("{} examples in a box.", rows.count_range("n")))
        .interval("The boxes show how examples spread.")
        .null("No difference: boxes at one height.");
    Ok(vec![figure.folded(true).draw(&plot)].into())
}
