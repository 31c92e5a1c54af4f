//! Directions, and how far models and datasets lie apart along them.

use super::*;

impl Tables {
    pub fn subspace_similarity(&mut self, bindings: &[(&str, &str)]) {
        let mut rows = Rows::default();
        let mut angles = Vec::new();
        for (layer, site) in depths() {
            for angle in 1..=4 {
                let null = 0.8 / angle as f64;
                rows.at(layer, site, "");
                rows.numbers.push([(1.0 - 0.2 * angle as f64 + 0.1 * self.noise()).min(1.0), null - 0.3, null - 0.2]);
                angles.push(angle);
            }
        }
        let n = rows.layer.len();
        let columns = vec![
            ("position", Column::Text(vec!["last".into(); n])),
            ("layer", Column::U32(rows.layer.clone())),
            ("site", Column::Text(rows.site.clone())),
            ("k", Column::U32(vec![4; n])),
            ("angle_index", Column::U32(angles)),
            ("cosine", rows.column(0)),
            ("null_cosine", rows.column(1)),
            ("null_high", rows.column(2)),
        ];
        self.add("subspace_similarity", bindings, columns);
    }

    pub fn direction_similarity(&mut self) {
        for (a, dataset_a) in DATASETS.iter().enumerate() {
            for (b, dataset_b) in DATASETS.iter().enumerate().skip(a + 1) {
                let mut rows = Rows::default();
                let mut components = (Vec::new(), Vec::new());
                for (layer, site) in depths() {
                    for (i, j) in (0..16).map(|i| (i / 4, i % 4)) {
                        let like = 0.9 - 0.05 * (b - a) as f64 - 0.02 * (LAYERS - layer) as f64;
                        let cosine = if i == j { like / (1.0 + i as f64) } else { 0.0 } + 0.08 * self.noise();
                        let null = 0.25 * self.noise();
                        rows.at(layer, site, "svd");
                        rows.numbers.push([cosine, null.abs(), 0.4]);
                        components.0.push(i + 1);
                        components.1.push(j + 1);
                    }
                }
                let bindings =
                    [("source", "base"), ("target", "instruct"), ("dataset_a", dataset_a), ("dataset_b", dataset_b)];
                let columns = vec![
                    ("position", Column::Text(vec!["last".into(); rows.layer.len()])),
                    ("layer", Column::U32(rows.layer.clone())),
                    ("site", Column::Text(rows.site.clone())),
                    ("kind", Column::Text(rows.kind.clone())),
                    ("component_a", Column::U32(components.0)),
                    ("component_b", Column::U32(components.1)),
                    ("cosine", rows.column(0)),
                    ("null_cosine", rows.column(1)),
                    ("null_high", rows.column(2)),
                    ("random_cosine", Column::F64(vec![0.45; rows.layer.len()])),
                    ("random_high", Column::F64(vec![0.6; rows.layer.len()])),
                ];
                self.add("direction_similarity", &bindings, columns);
                self.subspace_similarity(&bindings);
            }
        }
    }

    pub fn separation(&mut self) {
        for (d, dataset) in DATASETS.iter().enumerate() {
            for (a, b) in [(0, 1), (0, 2), (1, 2)] {
                let mut rows = Rows::default();
                for (layer, site) in depths() {
                    let gap = [0.0, 1.0, 0.7 - 0.1 * d as f64];
                    let score = (gap[b] - gap[a]) * layer as f64 * 0.6 + 0.05 * self.noise();
                    rows.at(layer, site, "mean_difference");
                    rows.numbers.push([score, score - 0.2, score + 0.2]);
                }
                let bindings = [
                    ("direction", DATASETS[0]),
                    ("source", "base"),
                    ("target", "instruct"),
                    ("dataset", dataset),
                    ("model_a", MODELS[a]),
                    ("model_b", MODELS[b]),
                ];
                let columns = vec![
                    ("kind", Column::Text(rows.kind.clone())),
                    ("component", Column::U32(vec![1; rows.layer.len()])),
                    ("position", Column::Text(vec!["last".into(); rows.layer.len()])),
                    ("layer", Column::U32(rows.layer.clone())),
                    ("site", Column::Text(rows.site.clone())),
                    ("score", rows.column(0)),
                    ("ci_low", rows.column(1)),
                    ("ci_high", rows.column(2)),
                    ("p_holm", Column::F64((0..rows.layer.len()).map(|i| 0.2 / (1.0 + i as f64).powi(2)).collect())),
                ];
                self.add("separation", &bindings, columns);
            }
        }
    }

    pub fn distance(&mut self) {
        for (m, model) in MODELS.iter().enumerate() {
            for (a, dataset_a) in DATASETS.iter().enumerate() {
                for (b, dataset_b) in DATASETS.iter().enumerate().skip(a + 1) {
                    let mut rows = Rows::default();
                    for (layer, site) in depths() {
                        let distance = (b - a) as f64 * 0.01 * (1.0 + m as f64) * layer as f64;
                        rows.at(layer, site, "");
                        rows.numbers.push([distance, 0.9 * distance, 1.1 * distance]);
                    }
                    let bindings = [("model", *model), ("dataset_a", *dataset_a), ("dataset_b", *dataset_b)];
                    let columns = vec![
                        ("position", Column::Text(vec!["last".into(); rows.layer.len()])),
                        ("layer", Column::U32(rows.layer.clone())),
                        ("site", Column::Text(rows.site.clone())),
                        ("cosine_distance", rows.column(0)),
                        ("ci_low", rows.column(1)),
                        ("ci_high", rows.column(2)),
                    ];
                    self.add("distance", &bindings, columns);
                }
            }
        }
    }

    pub fn directions(&mut self) {
        for (d, dataset) in DATASETS.iter().enumerate() {
            let mut rows = Rows::default();
            let mut components = Vec::new();
            for (layer, site) in depths() {
                for component in 0..5 {
                    let kind = if component == 0 { "mean_difference" } else { "svd" };
                    let share = (0.5 + 0.02 * d as f64 + 0.03 * layer as f64) / (1.0 + component as f64).powi(2);
                    let norm = (layer as f64 + 0.3) * (1.0 + 0.1 * d as f64);
                    rows.at(layer, site, kind);
                    rows.numbers.push(if component == 0 { [f64::NAN, norm, 0.0] } else { [share, f64::NAN, 0.0] });
                    components.push(component.max(1));
                }
            }
            let bindings = [("dataset", *dataset), ("source", "base"), ("target", "instruct")];
            let columns = vec![
                ("position", Column::Text(vec!["last".into(); rows.layer.len()])),
                ("layer", Column::U32(rows.layer.clone())),
                ("site", Column::Text(rows.site.clone())),
                ("kind", Column::Text(rows.kind.clone())),
                ("component", Column::U32(components)),
                ("explained_variance", rows.column(0)),
                ("norm", rows.column(1)),
                ("n", Column::U32(vec![40 + d as u32; rows.layer.len()])),
            ];
            self.add("directions", &bindings, columns);
        }
    }

    pub fn departure(&mut self) {
        for (d, dataset) in DATASETS.iter().enumerate() {
            let bindings = [
                ("direction", DATASETS[0]),
                ("source", "base"),
                ("target", "instruct"),
                ("dataset", *dataset),
                ("model_a", "instruct"),
                ("model_b", "misaligned"),
            ];
            let columns = vec![
                ("kind", Column::Text(vec!["mean_difference".into()])),
                ("component", Column::U32(vec![1])),
                ("position", Column::Text(vec!["last".into()])),
                ("layer", Column::U32(vec![5 - d as u32 / 2])),
                ("site", Column::Text(vec!["residual".into()])),
                ("stays", Column::Bool(vec![d != 6])),
            ];
            self.add("departure", &bindings, columns);
        }
    }
}
