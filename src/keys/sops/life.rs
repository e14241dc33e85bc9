//! How a value of a SOPS file comes into being, and how it is replaced.
//!
//! The new value first stands in a second file beside the first: its copy, but for this value. That file gets its name when
//! it is whole and on the disk, and only if nothing has that name. Once the database was read with the new value, that is
//! written into the first file as it is then, and the second one is removed. So several processes that make a value at
//! the same time agree on one, no change to another value is lost, and neither is a secret.

use std::fs;
use std::io;

use crate::error::{Error, ErrorKind, Reason, Result};
use crate::keys::beside::{Beside, sweep, sync_directory, unwritable};
use crate::keys::fresh;
use crate::keys::place::Place;
use crate::keys::settling::{displaced, present};
use crate::keys::turn::FileTurn;
use crate::private::FileRights;
use crate::secret::Secret;

use super::encrypt::encrypt;
use super::reader::{Reader, blocking};
use super::source::SopsKeySource;

impl SopsKeySource {
    /// The secret that is not settled yet.
    pub(super) async fn unsettled(&self) -> Result<Secret> {
        let reader = Reader { file: self.second(), format: Some(self.reader.format()), ..self.reader.clone() };
        let unsettled = reader.read(&self.path()?).await;
        unsettled.map_err(|error| error.context(format!("SOPS file {}", reader.file)))
    }

    fn second(&self) -> Place {
        self.reader.file.next()
    }

    /// The value of a new database.
    pub(super) async fn first(&self) -> Result<Secret> {
        let _turn = self.turn().await?;
        self.refuse_present().await?;
        let secret = match self.unsettled().await {
            Err(error) if error.reason() == Reason::Missing => self.make(false).await?,
            found => self.synced().await.and(found)?,
        };
        // Without turns, another process may have settled one since. What was written here stays, as another may rely on
        // it already.
        self.refuse_present().await.map(|()| secret)
    }

    /// The value that is to take the place of the present one.
    pub(super) async fn next(&self) -> Result<Secret> {
        let _turn = self.turn().await?;
        let present = match (self.reader.read(&self.path()?).await, self.unsettled().await) {
            // Made for a new database, and not settled: it is the present one.
            (Err(error), Ok(made)) if error.reason() == Reason::Missing => {
                self.put(&made).await?;
                made
            }
            (found, _) => found?,
        };
        match self.unsettled().await {
            Err(error) if error.reason() == Reason::Missing => self.make(true).await,
            // Written into the file already, and cut off then.
            Ok(next) if next.expose() == present.expose() => {
                self.remove_second(&present).await?;
                self.make(true).await
            }
            found => self.synced().await.and(found),
        }
    }

    /// Writes `secret` into the file, if it is the one that is to follow.
    pub(super) async fn keep(&self, secret: &Secret) -> Result<()> {
        let _turn = self.turn().await?;
        match self.unsettled().await {
            Ok(next) if next.expose() == secret.expose() => self.put(secret).await,
            Err(error) if error.reason() != Reason::Missing => Err(error),
            found => self.kept(secret, found.is_err()).await,
        }
    }

    /// Whether `secret` is the present one. If not, it gets the second file, should there be none.
    async fn kept(&self, secret: &Secret, is_free: bool) -> Result<()> {
        let has_value = match self.reader.read(&self.path()?).await {
            Ok(found) if found.expose() == secret.expose() => return self.synced().await,
            Err(error) if error.reason() != Reason::Missing => return Err(error),
            found => found.is_ok(),
        };
        let taken = || Error::new(ErrorKind::Key, format!("{} is that of another change", self.second()));
        let kept = if is_free { self.store(secret.clone(), has_value).await } else { Err(taken()) };
        Err(displaced(&self.name(&self.reader.file), kept))
    }

    /// Writes the secret of the second file into the first.
    async fn put(&self, secret: &Secret) -> Result<()> {
        let path = self.path()?;
        match self.reader.read(&path).await {
            Ok(present) if present.expose() == secret.expose() => self.synced().await?,
            Ok(_) => self.reader.replace(&path, secret.clone()).await?,
            Err(error) if error.reason() != Reason::Missing => return Err(error),
            Err(_) if is_there(&self.reader.file).await? => {
                let changed = self.reader.inserted(&path, secret.clone()).await?;
                self.reader.write(changed).await?;
            }
            Err(_) => {
                let (file, second) = (self.reader.file.behind_links(), self.second());
                return blocking(move || {
                    let moved = fs::rename(second.path(), &file).and_then(|()| sync_directory(&file));
                    moved.map_err(|error| unwritable("the file", error))
                })
                .await;
            }
        }
        self.remove_second(secret).await
    }

    /// Makes a value in the second file, or finds the one that another process has made there. `has_value` says whether
    /// the first has one.
    async fn make(&self, has_value: bool) -> Result<Secret> {
        self.store(Secret::new(&fresh::digits()?[..]), has_value).await?;
        self.unsettled().await
    }

    /// Makes the second file with `secret`, if there is none.
    async fn store(&self, secret: Secret, has_value: bool) -> Result<()> {
        let (path, file, second) = (self.path()?, self.reader.file.clone(), self.second());
        let text = if has_value {
            self.reader.replaced(&path, secret).await?.text
        } else if is_there(&file).await? {
            self.reader.inserted(&path, secret).await?.text
        } else {
            let recipients: Vec<&str> = self.recipients.0.iter().map(String::as_str).collect();
            if recipients.is_empty() {
                let error =
                    Error::new(ErrorKind::Key, "the file does not exist, and nobody is named who could open it");
                return Err(error
                    .because(Reason::Missing)
                    .hint("name .recipients(), or make the file by `sops encrypt`"));
            }
            let Some(name) = path.top_level() else {
                let error =
                    Error::new(ErrorKind::Unsupported, "the file does not exist, and is made with one name only");
                return Err(error.hint("make it by `sops encrypt`, or take a path of one name"));
            };
            encrypt(self.reader.format(), &[(name, &secret)], &recipients)?
        };
        blocking(move || {
            let like = FileRights::of(file.path()).ok();
            let made = Beside::write(second.path(), text.as_bytes(), like.as_ref());
            // Where another process was first, its value is as good.
            let made = made.and_then(|beside| beside.publish(second.path()));
            made.map_err(|error| unwritable(&second, error))
        })
        .await
    }

    /// Waits until nobody else is about to change the file or the second one.
    async fn turn(&self) -> Result<FileTurn> {
        let file = self.reader.file.clone();
        blocking(move || Ok(FileTurn::beside(&file.behind_links()))).await
    }

    /// What is found may have been named by somebody whose sync failed, or is still under way.
    async fn synced(&self) -> Result<()> {
        let second = self.second();
        blocking(move || sync_directory(second.path()).map_err(|error| unwritable(&second, error))).await
    }

    async fn refuse_present(&self) -> Result<()> {
        match self.reader.read(&self.path()?).await {
            Ok(_) => Err(present(&self.name(&self.reader.file))),
            Err(error) if error.reason() == Reason::Missing => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Removes the second file, if that holds `settled` still.
    async fn remove_second(&self, settled: &Secret) -> Result<()> {
        if !self.unsettled().await.is_ok_and(|next| next.expose() == settled.expose()) {
            return Ok(());
        }
        let second = self.second();
        blocking(move || {
            let removed = fs::remove_file(second.path()).and_then(|()| sync_directory(second.path()));
            sweep(second.path());
            match removed {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(unwritable(&second, error)),
                _ => Ok(()),
            }
        })
        .await
    }
}

async fn is_there(place: &Place) -> Result<bool> {
    let place = place.clone();
    blocking(move || Ok(place.path().symlink_metadata().is_ok())).await
}
