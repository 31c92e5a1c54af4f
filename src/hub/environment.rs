//! What the Hugging Face libraries' environment variables say: where the cache lies, which hub is asked, and as whom.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// As `huggingface_hub` reads them.
pub struct Environment {
    /// `HF_HUB_CACHE`, or `hub` below `HF_HOME`.
    pub cache: PathBuf,
    /// `HF_ENDPOINT`, without a slash at its end.
    pub endpoint: String,
    /// Nothing is asked for.
    pub offline: bool,
    token: Option<String>,
}

const ENDPOINT: &str = "https://huggingface.co";

impl Environment {
    /// This process's.
    pub fn own() -> &'static Environment {
        static OWN: OnceLock<Environment> = OnceLock::new();
        OWN.get_or_init(|| Environment::of(&|name| env::var_os(name)))
    }

    fn of(variable: &dyn Fn(&str) -> Option<OsString>) -> Environment {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let text = |name: &str| set(name).and_then(|value| value.into_string().ok());
        let user = set("HOME").map_or_else(PathBuf::new, PathBuf::from);
        let path = |value: OsString| from_home(Path::new(&value), &user);
        let home = match (set("HF_HOME"), set("XDG_CACHE_HOME")) {
            (Some(home), _) => path(home),
            (None, Some(caches)) => path(caches).join("huggingface"),
            (None, None) => user.join(".cache/huggingface"),
        };
        let cache = set("HF_HUB_CACHE").or_else(|| set("HUGGINGFACE_HUB_CACHE"));
        let cache = cache.map_or_else(|| home.join("hub"), path);
        // Paths of the cache are compared with others' as texts.
        let cache = std::path::absolute(&cache).unwrap_or(cache);
        let is_true = |name: &str| {
            text(name).is_some_and(|value| ["1", "ON", "YES", "TRUE"].contains(&value.to_uppercase().as_str()))
        };
        let endpoint = text("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.to_string());
        let token_file = set("HF_TOKEN_PATH").map_or_else(|| home.join("token"), path);
        let token = text("HF_TOKEN")
            .or_else(|| text("HUGGING_FACE_HUB_TOKEN"))
            .or_else(|| std::fs::read_to_string(token_file).ok())
            .map(|token| token.split_whitespace().collect::<String>())
            .filter(|token| !token.is_empty() && !is_true("HF_HUB_DISABLE_IMPLICIT_TOKEN"));
        Environment {
            cache,
            endpoint: endpoint.trim_end_matches('/').to_string(),
            offline: is_true("HF_HUB_OFFLINE") || is_true("TRANSFORMERS_OFFLINE"),
            token,
        }
    }

    /// The user's, of `HF_TOKEN` or the file that `hf auth login` writes.
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }
}

/// `~/x` below the user's folder.
fn from_home(path: &Path, user: &Path) -> PathBuf {
    path.strip_prefix("~").map_or_else(|_| path.to_path_buf(), |rest| user.join(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Environment {
        let variable = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
        Environment::of(&variable)
    }

    #[test]
    fn the_variables_are_those_of_huggingface_hub() {
        let plain = of(&[("HOME", "/home/u")]);
        assert_eq!(plain.cache, Path::new("/home/u/.cache/huggingface/hub"));
        assert_eq!((plain.endpoint.as_str(), plain.offline, plain.token()), (ENDPOINT, false, None));
        let cache = |variables: &[(&str, &str)]| of(variables).cache;
        assert_eq!(cache(&[("HF_HOME", "/data/hf")]), Path::new("/data/hf/hub"));
        assert_eq!(cache(&[("HOME", "/h"), ("HF_HOME", "~/hf")]), Path::new("/h/hf/hub"));
        assert_eq!(cache(&[("XDG_CACHE_HOME", "/c")]), Path::new("/c/huggingface/hub"));
        assert_eq!(cache(&[("HF_HOME", "/data/hf"), ("HF_HUB_CACHE", "/x")]), Path::new("/x"));
        assert_eq!(of(&[("HF_ENDPOINT", "http://localhost:1/")]).endpoint, "http://localhost:1");
        assert!(of(&[("HF_HUB_OFFLINE", "1")]).offline && of(&[("HF_HUB_OFFLINE", "true")]).offline);
        assert!(!of(&[("HF_HUB_OFFLINE", "0")]).offline);
        assert_eq!(of(&[("HF_TOKEN", " hf_x\n")]).token(), Some("hf_x"));
    }

    #[test]
    fn the_token_is_that_of_the_environment_or_of_the_file_that_logging_in_writes() {
        let home = tempfile::tempdir().expect("a folder");
        std::fs::write(home.path().join("token"), "hf_file\n").expect("written");
        let path = home.path().to_str().expect("text");
        assert_eq!(of(&[("HF_HOME", path)]).token(), Some("hf_file"));
        assert_eq!(of(&[("HF_HOME", path), ("HF_TOKEN", "hf_own")]).token(), Some("hf_own"));
        assert_eq!(of(&[("HF_HOME", path), ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")]).token(), None);
        let file = home.path().join("token");
        assert_eq!(of(&[("HF_TOKEN_PATH", file.to_str().expect("text"))]).token(), Some("hf_file"));
    }
}
