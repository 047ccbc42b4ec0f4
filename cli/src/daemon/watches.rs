//! Tells which namespaces are gone. A process has a pidfd of its own; names share one inotify fd a directory, for a user may have 128
//! inotify instances (fs.inotify.max_user_instances) and a switch has thousands of ports.
use crate::api::types::{self, NsId};
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use vswitch_io::netns::{self, Events, Watch, WatchKind};

struct Directory {
    path: PathBuf,
    watch: Watch,
    /// Container -> its file in the directory and the namespace that stands for.
    names: BTreeMap<String, (String, NsId)>,
}

impl Directory {
    /// Containers that are gone, of those that events are about.
    fn gone(&self, events: &Events) -> Vec<String> {
        let gone = |file: &str, ns: NsId| events.gone(&self.path, file, netns::NsId { dev: ns.dev, ino: ns.ino });
        let concerned = self.names.iter().filter(|(_, (file, _))| events.concern(file));
        let is_gone = |name: &str, file: &str, ns: NsId| {
            gone(file, ns).unwrap_or_else(|error| {
                tracing::warn!("cannot tell whether the namespace of {name} is there ({error})");
                false
            })
        };
        concerned.filter(|(name, (file, ns))| is_gone(name, file, *ns)).map(|(name, _)| name.clone()).collect()
    }
}

enum Watched {
    Process { name: String, watch: Watch },
    Directory(Directory),
}

/// All watches.
pub struct Watches {
    next: usize,
    watched: HashMap<Token, Watched>,
    /// Container -> what watches its namespace.
    tokens: HashMap<String, Token>,
}

impl Watches {
    /// Tokens from `first` on are its own.
    pub fn new(first: usize) -> Self {
        Self { next: first, watched: HashMap::new(), tokens: HashMap::new() }
    }

    /// Fds held.
    pub fn len(&self) -> usize {
        self.watched.len()
    }

    /// Watches the namespace of container `name`. Says whether it is gone already; then it is not watched.
    pub fn add(&mut self, registry: &Registry, name: &str, watch: Watch) -> io::Result<bool> {
        if watch.gone()? {
            return Ok(true);
        }
        let place = match &watch.kind {
            WatchKind::Process => None,
            WatchKind::Name { dir, file, id } => Some((dir.clone(), (file.clone(), NsId { dev: id.dev, ino: id.ino }))),
        };
        if let Some((dir, entry)) = &place
            && let Some((token, directory)) = self.directory(dir)
        {
            directory.names.insert(name.into(), entry.clone());
            self.tokens.insert(name.into(), token);
            return Ok(false);
        }
        let token = Token(self.next);
        self.next += 1;
        registry.register(&mut SourceFd(&watch.fd.as_raw_fd()), token, Interest::READABLE)?;
        let watched = match place {
            None => Watched::Process { name: name.into(), watch },
            Some((path, entry)) => Watched::Directory(Directory { path, watch, names: BTreeMap::from([(name.into(), entry)]) }),
        };
        self.watched.insert(token, watched);
        self.tokens.insert(name.into(), token);
        Ok(false)
    }

    fn directory(&mut self, dir: &Path) -> Option<(Token, &mut Directory)> {
        self.watched.iter_mut().find_map(|(token, watched)| match watched {
            Watched::Directory(directory) if directory.path == dir => Some((*token, directory)),
            Watched::Directory(_) | Watched::Process { .. } => None,
        })
    }

    /// Watches a container's namespace no more.
    pub fn remove(&mut self, registry: &Registry, name: &str) {
        let Some(token) = self.tokens.remove(name) else { return };
        let is_last = match self.watched.get_mut(&token) {
            Some(Watched::Directory(directory)) => {
                directory.names.remove(name);
                directory.names.is_empty()
            }
            Some(Watched::Process { .. }) => true,
            None => false,
        };
        if is_last {
            self.close(registry, token);
        }
    }

    /// What watches a container's namespace, for another process.
    pub fn export(&self, name: &str) -> Option<(types::WatchKind, OwnedFd)> {
        match self.watched.get(self.tokens.get(name)?)? {
            Watched::Process { watch, .. } => Some((types::WatchKind::Process, watch.fd.try_clone().ok()?)),
            Watched::Directory(directory) => {
                let (file, _) = directory.names.get(name)?;
                let kind = types::WatchKind::Name { dir: directory.path.clone(), file: file.clone() };
                Some((kind, directory.watch.fd.try_clone().ok()?))
            }
        }
    }

    fn close(&mut self, registry: &Registry, token: Token) {
        if let Some(Watched::Process { watch, .. } | Watched::Directory(Directory { watch, .. })) = self.watched.remove(&token) {
            let _ = registry.deregister(&mut SourceFd(&watch.fd.as_raw_fd()));
        }
    }

    /// The containers whose namespace is gone, of those that `token` watches.
    pub fn ready(&mut self, token: Token) -> Vec<String> {
        let gone = match self.watched.get(&token) {
            Some(Watched::Process { name, watch }) => watch.gone().map(|gone| if gone { vec![name.clone()] } else { Vec::new() }),
            Some(Watched::Directory(directory)) => directory.watch.events().map(|events| {
                if events.is_last() {
                    // Whatever is there now is another directory: nobody's name is left in this one.
                    directory.names.keys().cloned().collect()
                } else {
                    directory.gone(&events)
                }
            }),
            None => return Vec::new(),
        };
        gone.unwrap_or_else(|error| {
            tracing::warn!("a watch tells nothing any more ({error})");
            Vec::new()
        })
    }
}
