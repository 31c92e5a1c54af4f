//! Which modules the patterns of an adapter_config.json name, as peft matches them.

use anyhow::{Context, Result, bail};
use fancy_regex::Regex;

use super::config::{AdapterConfig, Layers, Names};
use crate::contract::pipeline::nearest;

/// The patterns of a config, compiled.
pub struct Patterns {
    target: Targets,
    exclude: Option<Targets>,
    saved: Vec<(String, Regex)>,
    layers: Option<Vec<usize>>,
    /// What gives a module's block in its name, as the group 1.
    layer_of: Vec<Regex>,
    ranks: Vec<(String, Regex, usize)>,
    alphas: Vec<(String, Regex, f64)>,
}

enum Targets {
    /// All linear layers but the output head.
    AllLinear,
    Pattern(String, Regex),
    List(Vec<String>),
}

impl Targets {
    fn of(key: &str, names: &Names) -> Result<Targets> {
        Ok(match names {
            Names::Pattern(pattern) if pattern.eq_ignore_ascii_case("all-linear") => Targets::AllLinear,
            Names::Pattern(pattern) => Targets::Pattern(pattern.clone(), regex(key, &format!("^(?:{pattern})$"))?),
            Names::List(names) => Targets::List(names.clone()),
        })
    }

    fn matches(&self, module: &str, head: bool) -> Result<bool> {
        Ok(match self {
            Targets::AllLinear => !head,
            Targets::Pattern(_, pattern) => pattern.is_match(module)?,
            Targets::List(names) => names.iter().any(|name| is_end(module, name)),
        })
    }
}

fn is_end(module: &str, name: &str) -> bool {
    module.strip_suffix(name).is_some_and(|before| before.is_empty() || before.ends_with('.'))
}

fn regex(key: &str, pattern: &str) -> Result<Regex> {
    Regex::new(pattern).with_context(|| format!("adapter_config.json: \"{key}\" is no regular expression: {pattern}"))
}

impl Patterns {
    /// # Errors
    /// When one is no regular expression.
    pub fn of(config: &AdapterConfig) -> Result<Patterns> {
        let target = config.target_modules.as_ref().context("adapter_config.json has no \"target_modules\"")?;
        let end_of = |key: &str, pattern: &str| regex(key, &format!("^(?:.*\\.)?(?:{pattern})$"));
        let saved = config.modules_to_save.iter().flatten();
        let layer_of = match &config.layers_pattern {
            Some(Names::Pattern(pattern)) if !pattern.is_empty() => vec![pattern.as_str()],
            Some(Names::List(patterns)) if !patterns.is_empty() => patterns.iter().map(String::as_str).collect(),
            _ => vec!["[^.]*"],
        };
        let layer_of = layer_of.into_iter().map(|p| regex("layers_pattern", &format!("^(?:|.*?\\.){p}\\.(\\d+)\\.")));
        let ranks = config.rank_pattern.iter().flatten();
        let alphas = config.alpha_pattern.iter().flatten();
        Ok(Patterns {
            target: Targets::of("target_modules", target)?,
            exclude: config.exclude_modules.as_ref().map(|names| Targets::of("exclude_modules", names)).transpose()?,
            saved: saved
                .map(|name| Ok((name.clone(), regex("modules_to_save", &format!("^(?:|.*\\.){name}(?:$|\\..*)"))?)))
                .collect::<Result<_>>()?,
            layers: config.layers_to_transform.as_ref().and_then(|layers| match layers {
                Layers::One(layer) => Some(vec![*layer]),
                Layers::Some(layers) => (!layers.is_empty()).then(|| layers.clone()),
            }),
            layer_of: layer_of.collect::<Result<_>>()?,
            ranks: ranks
                .map(|(key, rank)| Ok((key.clone(), end_of("rank_pattern", key)?, *rank)))
                .collect::<Result<_>>()?,
            alphas: alphas
                .map(|(key, alpha)| Ok((key.clone(), end_of("alpha_pattern", key)?, *alpha)))
                .collect::<Result<_>>()?,
        })
    }

    /// Whether a module has a low-rank update, by its name in the whole model. `head`: whether it is the output head.
    ///
    /// # Errors
    /// When a pattern takes too long.
    pub fn is_target(&self, module: &str, head: bool) -> Result<bool> {
        if self.exclude.as_ref().map_or(Ok(false), |exclude| exclude.matches(module, false))? {
            return Ok(false);
        }
        for (_, saved) in &self.saved {
            if saved.is_match(module)? {
                return Ok(false);
            }
        }
        if !self.target.matches(module, head)? {
            return Ok(false);
        }
        // Blocks are picked for names that match by their end alone.
        let (Targets::List(names), Some(layers)) = (&self.target, &self.layers) else { return Ok(true) };
        if names.iter().any(|name| name == module) {
            return Ok(true);
        }
        for layer_of in &self.layer_of {
            if let Some(found) = layer_of.captures(module)? {
                let layer = found.get(1).and_then(|layer| layer.as_str().parse().ok());
                return Ok(layer.is_some_and(|layer: usize| layers.contains(&layer)));
            }
        }
        Ok(false)
    }

    /// The rank and alpha of a module.
    ///
    /// # Errors
    /// When a pattern takes too long.
    pub fn rank_and_alpha(&self, config: &AdapterConfig, module: &str) -> Result<(usize, f64)> {
        let (mut rank, mut alpha) = (config.r, config.lora_alpha);
        for (_, pattern, own) in self.ranks.iter().rev() {
            if pattern.is_match(module)? {
                rank = *own;
            }
        }
        for (_, pattern, own) in self.alphas.iter().rev() {
            if pattern.is_match(module)? {
                alpha = *own;
            }
        }
        Ok((rank, alpha))
    }

    /// # Errors
    /// When a target, a rank pattern or an alpha pattern names none of these modules, or a module to be saved is none of
    /// `saved`.
    pub fn check_all_used(&self, modules: &[&str], targets: &[&str], saved: &[&str]) -> Result<()> {
        match &self.target {
            Targets::AllLinear => {}
            Targets::Pattern(pattern, _) => {
                if targets.is_empty() {
                    bail!(
                        "\"target_modules\" is \"{pattern}\", which names no module of the base{}",
                        like(pattern, modules)
                    );
                }
            }
            Targets::List(names) => {
                for name in names {
                    if !modules.iter().any(|module| is_end(module, name)) {
                        bail!(
                            "\"target_modules\" has \"{name}\", which names no module of the base{}",
                            like(name, modules)
                        );
                    }
                }
            }
        }
        let used = |patterns: &mut dyn Iterator<Item = (&String, &Regex)>, what: &str| -> Result<()> {
            for (key, pattern) in patterns {
                let mut matched = false;
                for target in targets {
                    matched |= pattern.is_match(target)?;
                }
                if !matched {
                    bail!(
                        "\"{what}\" has \"{key}\", which names none of the modules with an update{}",
                        like(key, targets)
                    );
                }
            }
            Ok(())
        };
        used(&mut self.ranks.iter().map(|(key, pattern, _)| (key, pattern)), "rank_pattern")?;
        used(&mut self.alphas.iter().map(|(key, pattern, _)| (key, pattern)), "alpha_pattern")?;
        for (name, _) in &self.saved {
            if !saved.iter().any(|module| module.ends_with(name.as_str())) {
                bail!("\"modules_to_save\" has \"{name}\", but the adapter's file holds no weights of it");
            }
        }
        Ok(())
    }
}

/// The end of a module's name that is most like what was written.
fn like(written: &str, modules: &[&str]) -> String {
    let last = |module: &&str| module.rsplit('.').next().unwrap_or_default().to_string();
    let mut ends: Vec<String> = modules.iter().map(last).collect();
    ends.sort();
    ends.dedup();
    match nearest(written, ends.iter().map(String::as_str)) {
        Some(near) => format!("; the nearest is \"{near}\""),
        None => format!("; they are named {}", ends.join(", ")),
    }
}
