//! Where a key is.

/// Where the key of an encrypted database is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyPlace {
    /// `env`: in the environment variable named by `key_env`.
    #[default]
    Env,
    /// `sops`: in the SOPS file at `sops_path`, under the name `sops_key`.
    Sops,
    /// `passphrase`: with the program, which hands it over when it opens the database.
    Passphrase,
}
