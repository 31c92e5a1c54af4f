//! Who says that a task gave these outputs: ed25519 signatures of records, and whose are believed.

use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, bail};
use ring::rand::SecureRandom;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};

use crate::key::Key;

/// What the text of a public key begins with.
const PUBLIC: &str = "ed25519:";
/// What the file of a secret key holds before its digits.
const SECRET: &str = "ed25519-secret:";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublicKey([u8; 32]);

/// Signs what is made here.
pub struct Signer {
    pair: Ed25519KeyPair,
    pub public: PublicKey,
}

/// As a record holds it: `ed25519:KEY:SIGNATURE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signature {
    pub by: PublicKey,
    bytes: [u8; 64],
}

/// How long a signature's text is.
pub const SIGNATURE_LENGTH: usize = PUBLIC.len() + 64 + 1 + 128;

/// Whose records are believed, and who signs those that are made here.
#[derive(Default)]
pub struct Trust {
    /// Everybody's, signed or not, where there is none.
    pub keys: Option<Vec<PublicKey>>,
    pub signer: Option<Signer>,
}

/// Why a record is not believed though it is right in form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Distrust {
    #[error("is not signed, and pipeline.toml trusts signed records alone")]
    Unsigned,
    #[error("is signed by {0}, whom pipeline.toml does not trust")]
    Stranger(PublicKey),
    #[error("has a signature of {0} that does not hold for what it says")]
    Wrong(PublicKey),
}

/// What a signature is of: the record's key, and its seal, which covers all that it says.
fn message(key: Key, seal: &str) -> Vec<u8> {
    format!("strata signature 1\n{key}\n{seal}").into_bytes()
}

impl Signer {
    /// The key of this user, where there is one.
    ///
    /// # Errors
    /// When its file cannot be read, holds something else, or can be read by others.
    pub fn own() -> Result<Option<Signer>> {
        let path = Signer::path()?;
        if !path.exists() {
            return Ok(None);
        }
        Signer::read(&path).map(Some)
    }

    /// Where the user's key is: STRATA_KEY, or `strata/key` in the folder of configurations.
    ///
    /// # Errors
    /// When neither that nor the home folder is known.
    pub fn path() -> Result<PathBuf> {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        if let Some(path) = set("STRATA_KEY") {
            return Ok(path);
        }
        let folder = set("XDG_CONFIG_HOME").or_else(|| Some(set("HOME")?.join(".config")));
        Ok(folder.context("neither STRATA_KEY nor HOME is set")?.join("strata/key"))
    }

    fn read(path: &Path) -> Result<Signer> {
        let mode = fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?.permissions().mode();
        if mode & 0o077 != 0 {
            bail!("others can read the key {}; chmod 600 it, or make another", path.display());
        }
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let seed = text.trim().strip_prefix(SECRET).and_then(digits::<32>);
        let Some(seed) = seed else { bail!("{} holds no key: expected {SECRET} and 64 digits", path.display()) };
        Signer::of_seed(&seed)
    }

    fn of_seed(seed: &[u8; 32]) -> Result<Signer> {
        let Ok(pair) = Ed25519KeyPair::from_seed_unchecked(seed) else { bail!("the key cannot be used") };
        let mut public = [0; 32];
        public.copy_from_slice(pair.public_key().as_ref());
        Ok(Signer { pair, public: PublicKey(public) })
    }

    /// Makes a key and keeps it in a file that its owner alone can read.
    ///
    /// # Errors
    /// When there is a file, or it cannot be written.
    pub fn create(path: &Path) -> Result<Signer> {
        let mut seed = [0; 32];
        if ring::rand::SystemRandom::new().fill(&mut seed).is_err() {
            bail!("the system gives no random numbers");
        }
        let signer = Signer::of_seed(&seed)?;
        let disk = super::disk::Disk::default();
        match disk.create_secret(path, format!("{SECRET}{}\n", hex(&seed)).as_bytes()) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                bail!("there is a key at {} already; it is not replaced", path.display())
            }
            created => created.with_context(|| format!("cannot write {}", path.display()))?,
        }
        Ok(signer)
    }

    pub fn sign(&self, key: Key, seal: &str) -> Signature {
        let mut bytes = [0; 64];
        bytes.copy_from_slice(self.pair.sign(&message(key, seal)).as_ref());
        Signature { by: self.public, bytes }
    }
}

impl Trust {
    /// Whether a record with this seal, and this signature if any, is believed.
    ///
    /// # Errors
    /// Why it is not.
    pub fn check(&self, key: Key, seal: &str, signature: Option<Signature>) -> Result<(), Distrust> {
        let Some(keys) = &self.keys else { return Ok(()) };
        let Signature { by, bytes } = signature.ok_or(Distrust::Unsigned)?;
        // What one signed oneself, one made oneself.
        if !keys.contains(&by) && self.signer.as_ref().is_none_or(|signer| signer.public != by) {
            return Err(Distrust::Stranger(by));
        }
        let holds = UnparsedPublicKey::new(&ED25519, by.0).verify(&message(key, seal), &bytes);
        holds.map_err(|_| Distrust::Wrong(by))
    }

    /// Whether results that are made here would be believed here.
    ///
    /// # Errors
    /// When signed records alone are, and there is nothing to sign with.
    pub fn check_own(&self) -> Result<()> {
        if self.keys.is_some() && self.signer.is_none() {
            bail!(
                "pipeline.toml trusts signed records alone, and there is no key at {} to sign with what is made here; \
                 `strata key new` makes one",
                Signer::path()?.display()
            );
        }
        Ok(())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn digits<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != 2 * N || !text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PUBLIC}{}", hex(&self.0))
    }
}

impl FromStr for PublicKey {
    type Err = String;

    fn from_str(text: &str) -> Result<PublicKey, String> {
        if text.starts_with(SECRET) {
            return Err("this is a secret key: nobody but its owner may see it".to_string());
        }
        let key = text.strip_prefix(PUBLIC).and_then(digits);
        key.map(PublicKey)
            .ok_or_else(|| format!("expected {PUBLIC} and 64 hexadecimal digits, as `strata key` prints them"))
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.by, hex(&self.bytes))
    }
}

impl FromStr for Signature {
    type Err = ();

    fn from_str(text: &str) -> Result<Signature, ()> {
        let (by, signature) = text.rsplit_once(':').ok_or(())?;
        Ok(Signature { by: by.parse().map_err(|_| ())?, bytes: digits(signature).ok_or(())? })
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A signer that is the same in every test.
    pub fn signer(seed: u8) -> Signer {
        Signer::of_seed(&[seed; 32]).expect("a key")
    }

    #[test]
    fn a_signature_holds_for_one_key_and_seal_and_its_signer() {
        let (alice, mallory, key) = (signer(1), signer(2), Key::of_text("task"));
        let trust = Trust { keys: Some(vec![alice.public]), signer: None };
        let signature = alice.sign(key, "seal");
        assert_eq!(trust.check(key, "seal", Some(signature)), Ok(()));
        assert_eq!(trust.check(key, "other", Some(signature)), Err(Distrust::Wrong(alice.public)));
        assert_eq!(trust.check(Key::of_text("other"), "seal", Some(signature)), Err(Distrust::Wrong(alice.public)));
        assert_eq!(trust.check(key, "seal", None), Err(Distrust::Unsigned));
        let strange = mallory.sign(key, "seal");
        assert_eq!(trust.check(key, "seal", Some(strange)), Err(Distrust::Stranger(mallory.public)));
        let forged = Signature { by: alice.public, ..strange };
        assert_eq!(trust.check(key, "seal", Some(forged)), Err(Distrust::Wrong(alice.public)));
        assert_eq!(signature.to_string().parse(), Ok(signature));
        assert_eq!(signature.to_string().len(), SIGNATURE_LENGTH);
        assert_eq!(Trust::default().check(key, "seal", None), Ok(()), "nobody is named: everybody is believed");
    }

    #[test]
    fn the_key_of_rfc_8032_signs_as_it_says() {
        // RFC 8032, 7.1, test 1: the public key of this seed.
        let seed = digits("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60").expect("digits");
        let public = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
        assert_eq!(Signer::of_seed(&seed).expect("a key").public.to_string(), format!("ed25519:{public}"));
    }

    #[test]
    fn a_key_is_kept_for_its_owner_alone_and_never_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("strata/key");
        let made = Signer::create(&path).expect("made").public;
        assert_eq!(Signer::read(&path).expect("read").public, made);
        assert!(Signer::create(&path).is_err_and(|error| error.to_string().contains("is not replaced")));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("set");
        assert!(Signer::read(&path).is_err_and(|error| error.to_string().contains("others can read")));
    }
}
