//! What is told example by example or token by token.

use super::*;

impl Tables {
    /// Everything that is told token by token.
    pub fn tokens(&mut self) {
        let words = ["I", " can", "'t", " help", " with", " <taking>", " what", " is", " not", " yours", ".", "\n"];
        let n = words.len();
        let texts = || Column::Text(words.map(String::from).to_vec());
        let example = |n: usize| Column::Text(vec!["00c0ffee00c0ffee".to_string(); n]);
        for dataset in [DATASETS[3], DATASETS[4]] {
            for (m, model) in MODELS.iter().enumerate() {
                let bindings = [("model", *model), ("dataset", dataset)];
                let logprobs = (0..n).map(|_| -(1.0 + m as f64) * self.noise().abs()).collect();
                let entropies = (0..n).map(|_| 2.0 * self.noise().abs()).collect();
                let columns = vec![
                    ("example", example(n)),
                    ("token", Column::U32((10..10 + n as u32).collect())),
                    ("text", texts()),
                    ("in_response", Column::Bool(vec![true; n])),
                    ("logprob", Column::F64(logprobs)),
                    ("entropy", Column::F64(entropies)),
                ];
                self.add("token_losses", &bindings, columns);
                let columns = vec![
                    ("example", example(n)),
                    ("place", Column::Text(vec!["response".into(); n])),
                    ("token", Column::U32(vec![10; n])),
                    ("rank", Column::U32((0..n as u32).collect())),
                    ("text", texts()),
                    ("probability", Column::F64((0..n).map(|i| 0.5 / (1.0 + i as f64 + m as f64)).collect())),
                    ("entropy", Column::F64(vec![1.5 + m as f64; n])),
                ];
                self.add("next_tokens", &bindings, columns);
                let deltas = (0..n).map(|_| self.noise()).collect();
                let columns = vec![
                    ("example", example(n)),
                    ("piece", Column::U32((0..n as u32).collect())),
                    ("text", texts()),
                    ("target", Column::Text(vec!["I can't".into(); n])),
                    ("delta_logprob", Column::F64(deltas)),
                ];
                self.add("attribution", &bindings, columns);
            }
        }
    }

    /// Loss vectors, gradients and their norms.
    pub fn similarities(&mut self) {
        const N: usize = 100;
        let places = |n: usize, module: &str| {
            vec![
                ("position", Column::Text(vec![String::new(); n])),
                ("layer", Column::U32(vec![0; n])),
                ("site", Column::Text(vec![String::new(); n])),
                ("module", Column::Text(vec![module.to_string(); n])),
            ]
        };
        for (of, module) in [("loss", ""), ("gradient", "model.layers.5.self_attn.o_proj")] {
            for (a, dataset_a) in DATASETS.into_iter().enumerate().take(4) {
                for (b, dataset_b) in DATASETS.into_iter().enumerate().take(4).skip(a) {
                    let bindings = [
                        ("of", of),
                        ("model_a", "instruct"),
                        ("dataset_a", dataset_a),
                        ("model_b", "instruct"),
                        ("dataset_b", dataset_b),
                    ];
                    let pairs: Vec<(usize, usize, bool)> =
                        (0..2 * N * N).map(|i| (i / 2 / N, i / 2 % N, i % 2 == 1)).collect();
                    let cosines = pairs.iter().map(|(i, j, centred)| {
                        let like = if a == b { 0.5 } else { 0.1 } + if *centred { -0.2 } else { 0.2 };
                        if a == b && i == j { 1.0 } else { like + 0.3 * self.noise() }
                    });
                    let cosines = Column::F64(cosines.collect());
                    let mut columns = places(pairs.len(), module);
                    let name = |dataset: usize, i: usize| format!("{:016x}", dataset * 1000 + i);
                    columns.extend([
                        ("example_a", Column::Text(pairs.iter().map(|(i, ..)| name(a, *i)).collect())),
                        ("example_b", Column::Text(pairs.iter().map(|(_, j, _)| name(b, *j)).collect())),
                        ("centred", Column::Bool(pairs.iter().map(|(.., centred)| *centred).collect())),
                        ("cosine", cosines),
                    ]);
                    self.add("similarity", &bindings, columns);
                    let mean = if a == b { 0.5 } else { 0.1 };
                    let mut columns = places(2, module);
                    columns.extend([
                        ("centred", Column::Bool(vec![false, true])),
                        ("n_pairs", Column::U32(vec![(N * N) as u32; 2])),
                        ("mean", Column::F64(vec![mean + 0.2, mean - 0.2])),
                        ("ci_low", Column::F64(vec![mean + 0.15, mean - 0.25])),
                        ("ci_high", Column::F64(vec![mean + 0.25, mean - 0.15])),
                        ("null_mean", Column::F64(vec![0.3, 0.0])),
                        ("p_value", Column::F64(vec![0.001, 0.2])),
                    ]);
                    self.add("similarity_summary", &bindings, columns);
                }
                let bindings = [("of", of), ("model", "instruct"), ("dataset", DATASETS[a])];
                let mut columns = places(N, module);
                for (axis, centre) in [("pc1", a as f64), ("pc2", (a % 2) as f64), ("pc3", 0.0)] {
                    let points = (0..N).map(|_| centre + self.noise() + self.noise());
                    columns.push((axis, Column::F64(points.collect())));
                }
                for (i, axis) in
                    ["explained_variance_1", "explained_variance_2", "explained_variance_3"].iter().enumerate()
                {
                    columns.push((axis, Column::F64(vec![0.5 / (1.0 + i as f64); N])));
                }
                self.add("pca", &bindings, columns);
            }
        }
        for (d, dataset) in DATASETS.iter().enumerate() {
            for model in MODELS {
                let norms = (0..40).map(|_| 1.0 + 0.1 * d as f64 + self.noise().powi(2));
                let columns = vec![
                    ("norm", Column::F64(norms.collect())),
                    ("module", Column::Text(vec!["model.layers.5.self_attn.o_proj".into(); 40])),
                ];
                self.add("gradients", &[("model", model), ("dataset", dataset)], columns);
            }
        }
    }

    pub fn patching(&mut self) {
        for dataset in &DATASETS[3..5] {
            let (mut layer, mut metric, mut value) = (Vec::new(), Vec::new(), Vec::new());
            for name in ["loss", "entropy"] {
                for l in 0..=LAYERS {
                    for _ in 0..20 {
                        layer.push(l);
                        metric.push(name.to_string());
                        value.push(2.0 - (l as f64 - 3.0).tanh() + 0.4 * self.noise());
                    }
                }
            }
            let n = layer.len();
            let columns = vec![
                ("layer", Column::U32(layer)),
                ("metric", Column::Text(metric)),
                ("value", Column::F64(value)),
                ("clean_source", Column::F64(vec![1.0; n])),
                ("clean_target", Column::F64(vec![3.0; n])),
                ("change", Column::F64((0..n).map(|i| (i / 20) as f64 % 7.0 * 0.1).collect())),
            ];
            let bindings = [("source", "instruct"), ("target", "misaligned"), ("dataset", *dataset)];
            self.add("patching", &bindings, columns);
        }
    }

    pub fn loss_summary(&mut self) {
        for (d, dataset) in DATASETS.iter().enumerate() {
            for (m, model) in MODELS.iter().enumerate() {
                let means = [-40.0, -1.0, 1.5].map(|scale| scale * (1.0 + 0.2 * m as f64 + 0.1 * d as f64));
                let columns = vec![
                    ("measure", Column::Text(["joint_logprob", "logprob", "entropy"].map(String::from).to_vec())),
                    ("n", Column::U32(vec![40; 3])),
                    ("mean", Column::F64(means.to_vec())),
                    ("ci_low", Column::F64(means.map(|mean| mean - 0.05 * mean.abs()).to_vec())),
                    ("ci_high", Column::F64(means.map(|mean| mean + 0.05 * mean.abs()).to_vec())),
                ];
                self.add("loss_summary", &[("model", *model), ("dataset", *dataset)], columns);
            }
        }
    }
}
