//! One of CTP's libraries, opened by its path: what it is, which version it tells, the objects that it makes.

#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_void};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use libloading::os::unix as dl;

use crate::flow::FlowDirectory;
use crate::front::FrontError;
use crate::object::Object;
use crate::slots::Slot;
use crate::version::{self, Family, Unserved};

/// Why a library cannot be used. Each says what is wrong, where, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// CTP's libraries have this binary interface on Linux alone.
    #[error("CTP's libraries are served on Linux only, not on {}", std::env::consts::OS)]
    Platform,
    /// The file cannot be read.
    #[error("cannot read the CTP library {}: {error}", path.display())]
    Unreadable {
        /// The library.
        path: PathBuf,
        /// Why. Part of the sentence, and no source that would repeat it.
        error: std::io::Error,
    },
    /// A directory, or a file of something else.
    #[error("{} is no CTP library: {fault}; name the broker's {}", path.display(), kind.file())]
    NotALibrary {
        /// The path.
        path: PathBuf,
        /// What it is instead.
        fault: String,
        /// What was looked for.
        kind: Kind,
    },
    /// The system refuses it.
    #[error("cannot load the CTP library {}: {reason}", path.display())]
    Load {
        /// The library.
        path: PathBuf,
        /// The system's words.
        reason: String,
    },
    /// It has no factory.
    #[error("{} is no library for CTP's {}: it has no {}{}; name the broker's {}", path.display(), kind.purpose(),
        kind.factory(), if *other { format!(", but is one for {}", kind.other().purpose()) } else { String::new() },
        kind.file())]
    NoFactory {
        /// The library.
        path: PathBuf,
        /// What was looked for.
        kind: Kind,
        /// It is one of the other kind.
        other: bool,
    },
    /// No family could be chosen.
    #[error(transparent)]
    Version(#[from] Unserved),
    /// A slot holds another method than the family says.
    #[error(
        "{} is not of family {family}: slot {slot} should hold {method}, but holds {found}. It says that it is {version:?}; \
         correct or remove `abi`, or ask the broker which version its library is compatible with",
        path.display()
    )]
    Slot {
        /// The library.
        path: PathBuf,
        /// What it says of itself.
        version: String,
        /// What it was taken for.
        family: Family,
        /// The slot.
        slot: usize,
        /// What it should hold.
        method: &'static str,
        /// What it holds.
        found: String,
    },
    /// A front's address is none.
    #[error(transparent)]
    Front(#[from] FrontError),
    /// The directory for CTP's flow files cannot be used.
    #[error("cannot use the flow directory {}: {fault}", path.display())]
    Flow {
        /// The directory.
        path: PathBuf,
        /// Why.
        fault: String,
    },
    /// The factory made nothing.
    #[error("{} made no object for the flow directory {}: is it writable?", path.display(), flow.display())]
    NoObject {
        /// The library.
        path: PathBuf,
        /// The flow directory.
        flow: PathBuf,
    },
}

/// The two libraries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Trading.
    Trader,
    /// Market data.
    Md,
}

impl Kind {
    fn other(self) -> Kind {
        match self {
            Kind::Trader => Kind::Md,
            Kind::Md => Kind::Trader,
        }
    }

    fn purpose(self) -> &'static str {
        match self {
            Kind::Trader => "trading",
            Kind::Md => "market data",
        }
    }

    fn file(self) -> &'static str {
        match self {
            Kind::Trader => "libthosttraderapi_se.so",
            Kind::Md => "libthostmduserapi_se.so",
        }
    }

    fn factory(self) -> &'static str {
        match self {
            Kind::Trader => "CThostFtdcTraderApi::CreateFtdcTraderApi",
            Kind::Md => "CThostFtdcMdApi::CreateFtdcMdApi",
        }
    }

    /// The factory's symbols, the newer first, and how many flags each takes after the path.
    fn factories(self) -> [(&'static CStr, usize); 2] {
        match self {
            Kind::Trader => [
                (c"_ZN19CThostFtdcTraderApi19CreateFtdcTraderApiEPKcb", 1),
                (c"_ZN19CThostFtdcTraderApi19CreateFtdcTraderApiEPKc", 0),
            ],
            Kind::Md => [
                (c"_ZN15CThostFtdcMdApi15CreateFtdcMdApiEPKcbbb", 3),
                (c"_ZN15CThostFtdcMdApi15CreateFtdcMdApiEPKcbb", 2),
            ],
        }
    }

    fn version_symbol(self) -> &'static CStr {
        match self {
            Kind::Trader => c"_ZN19CThostFtdcTraderApi13GetApiVersionEv",
            Kind::Md => c"_ZN15CThostFtdcMdApi13GetApiVersionEv",
        }
    }
}

/// How a factory is called.
#[derive(Debug, Clone, Copy)]
enum Factory {
    /// `(flow)`.
    Plain(unsafe extern "C" fn(*const c_char) -> *mut c_void),
    /// `(flow, production)`.
    Moded(unsafe extern "C" fn(*const c_char, bool) -> *mut c_void),
    /// `(flow, udp, multicast)`.
    Cast(unsafe extern "C" fn(*const c_char, bool, bool) -> *mut c_void),
    /// `(flow, udp, multicast, production)`.
    CastModed(unsafe extern "C" fn(*const c_char, bool, bool, bool) -> *mut c_void),
}

/// An opened library. It stays in the process: CTP's libraries have threads and static state that do not survive an
/// unload.
#[derive(Debug, Clone)]
pub(crate) struct Library {
    path: PathBuf,
    version: String,
    family: Family,
    factory: Factory,
}

/// Whether a library of CTP's was ever loaded.
static LOADED: AtomicBool = AtomicBool::new(false);

/// Ends the process if a library of CTP's was ever loaded: such a process must not end by itself, since the C++ destructors
/// that run then race with the libraries' own threads, which nothing stops. Everything must be written and closed before.
pub fn leave(code: u8) {
    if LOADED.load(Ordering::Acquire) {
        // SAFETY: `fflush` writes what the library has buffered; `_exit` ends the process and runs nothing.
        unsafe {
            libc::fflush(std::ptr::null_mut());
            libc::_exit(i32::from(code))
        }
    }
}

impl Library {
    /// Opens the library and chooses its family.
    pub fn open(kind: Kind, path: &Path, named: Option<Family>) -> Result<Library, LoadError> {
        if !cfg!(target_os = "linux") {
            return Err(LoadError::Platform);
        }
        look_at(kind, path)?;
        // Absolute: a bare file name would be searched for in the system's directories.
        let path = std::path::absolute(path).map_err(|error| LoadError::Unreadable { path: path.to_owned(), error })?;
        // Everything resolved now: a symbol that is missing is an error here, not an abort in the middle of trading.
        // SAFETY: the library's initialisers run; that they are sound is what loading the broker's library means.
        let library = unsafe { dl::Library::open(Some(&path), dl::RTLD_NOW | dl::RTLD_LOCAL) }
            .map_err(|error| LoadError::Load { path: path.clone(), reason: error.to_string() })?;
        LOADED.store(true, Ordering::Release);
        // Never closed.
        let library: &'static dl::Library = Box::leak(Box::new(library));
        let Some(factory) = factory(library, kind) else {
            let other = self::factory(library, kind.other()).is_some();
            return Err(LoadError::NoFactory { path, kind, other });
        };
        let text = told_version(library, kind);
        let family = version::choose(&path, text.as_deref(), named)?;
        Ok(Library { path, version: text.unwrap_or_default(), family, factory })
    }

    /// What the library says of its version; empty if nothing.
    pub fn version(&self) -> &str {
        &self.version
    }

    pub fn family(&self) -> Family {
        self.family
    }

    /// A new object with its flow files in a directory, every slot that will be called verified.
    pub fn make(&self, flow: &FlowDirectory, production: bool, called: &[Slot]) -> Result<Object, LoadError> {
        let prefix = CString::new(flow.prefix().as_os_str().as_bytes())
            .map_err(|_| LoadError::Flow { path: flow.path().to_owned(), fault: "its name holds a NUL".to_owned() })?;
        let prefix = prefix.as_ptr();
        // SAFETY: the symbol's own mangled name says these parameters; the text outlives the call, and CTP copies it.
        let this = unsafe {
            match self.factory {
                Factory::Plain(make) => make(prefix),
                Factory::Moded(make) => make(prefix, production),
                Factory::Cast(make) => make(prefix, false, false),
                Factory::CastModed(make) => make(prefix, false, false, production),
            }
        };
        if this.is_null() {
            return Err(LoadError::NoObject { path: self.path.clone(), flow: flow.path().to_owned() });
        }
        // SAFETY: the factory made it, and nothing has released it.
        let object = unsafe { Object::new(this, self.family) };
        // Where a slot is wrong, Release may be as well: the object is left as it is.
        object.verify(called).map_err(|wrong| LoadError::Slot {
            path: self.path.clone(),
            version: self.version.clone(),
            family: self.family,
            slot: wrong.slot,
            method: wrong.method,
            found: wrong.found,
        })?;
        Ok(object)
    }
}

/// Refuses what the linker would refuse with words that help nobody.
fn look_at(kind: Kind, path: &Path) -> Result<(), LoadError> {
    let unreadable = |error| LoadError::Unreadable { path: path.to_owned(), error };
    let not_one = |fault: String| Err(LoadError::NotALibrary { path: path.to_owned(), fault, kind });
    let mut file = std::fs::File::open(path).map_err(unreadable)?;
    if file.metadata().map_err(unreadable)?.is_dir() {
        return not_one("it is a directory".to_owned());
    }
    let mut head = Vec::new();
    file.by_ref().take(20).read_to_end(&mut head).map_err(unreadable)?;
    match what_is(&head) {
        None => Ok(()),
        Some(fault) => not_one(fault),
    }
}

/// What keeps a file that begins so from being a library of this machine; `None` if nothing does.
fn what_is(head: &[u8]) -> Option<String> {
    if head.starts_with(b"MZ") {
        return Some("it is a library for Windows".to_owned());
    }
    // The ELF header: magic, class (2 is 64 bits), ..., type at 16, machine at 18, little-endian here.
    let [0x7f, b'E', b'L', b'F', class, .., machine_low, machine_high] = head else {
        return Some("it is not even a shared library (no ELF header)".to_owned());
    };
    if head.len() < 20 {
        return Some("its ELF header is cut off".to_owned());
    }
    let machine = u16::from_le_bytes([*machine_low, *machine_high]);
    let ours = match std::env::consts::ARCH {
        "x86_64" => 62,
        "aarch64" => 183,
        _ => machine,
    };
    if *class == 2 && machine == ours {
        return None;
    }
    let theirs = match (class, machine) {
        (1, 3) => "32-bit x86".to_owned(),
        (2, 62) => "x86_64".to_owned(),
        (2, 183) => "aarch64".to_owned(),
        (class, machine) => format!("another machine (ELF class {class}, machine {machine})"),
    };
    Some(format!("it is built for {theirs}, and this machine is {}", std::env::consts::ARCH))
}

fn factory(library: &'static dl::Library, kind: Kind) -> Option<Factory> {
    // SAFETY: each symbol's mangled name says the parameters; the return type is the object's pointer.
    unsafe {
        kind.factories().into_iter().find_map(|(symbol, flags)| {
            let symbol = symbol.to_bytes_with_nul();
            Some(match flags {
                0 => Factory::Plain(*library.get(symbol).ok()?),
                1 => Factory::Moded(*library.get(symbol).ok()?),
                2 => Factory::Cast(*library.get(symbol).ok()?),
                _ => Factory::CastModed(*library.get(symbol).ok()?),
            })
        })
    }
}

fn told_version(library: &'static dl::Library, kind: Kind) -> Option<String> {
    // SAFETY: `static const char *GetApiVersion()`; what it points at is the library's own, ends with NUL and is copied.
    unsafe {
        let tell: dl::Symbol<unsafe extern "C" fn() -> *const c_char> =
            library.get(kind.version_symbol().to_bytes_with_nul()).ok()?;
        let text = tell();
        (!text.is_null()).then(|| CStr::from_ptr(text).to_string_lossy().trim().to_owned())
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    fn refused(kind: Kind, path: &Path) -> String {
        Library::open(kind, path, None).expect_err("no CTP library").to_string()
    }

    #[test]
    fn what_is_no_library_is_refused_with_what_it_is() {
        let dir = tempfile::tempdir().expect("directory");
        let at = |name: &str, bytes: &[u8]| {
            let path = dir.path().join(name);
            std::fs::write(&path, bytes).expect("written");
            path
        };
        let missing = dir.path().join("missing.so");
        let error = refused(Kind::Trader, &missing);
        assert!(
            error.starts_with(&format!("cannot read the CTP library {}: No such file", missing.display())),
            "{error}"
        );
        let mut elf32 = b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0\x03\0\x03\0".to_vec();
        for (path, fault) in [
            (dir.path().to_owned(), "it is a directory"),
            (at("empty", b""), "it is not even a shared library (no ELF header)"),
            (
                at("text", b"a text that is long enough to have a header"),
                "it is not even a shared library (no ELF header)",
            ),
            (at("cut", b"\x7fELF\x02\x01"), "it is not even a shared library (no ELF header)"),
            (at("cut-later", &elf32[..19]), "its ELF header is cut off"),
            (at("x.dll", b"MZ\x90\0........................"), "it is a library for Windows"),
            (
                at("32bit", &elf32),
                &format!("it is built for 32-bit x86, and this machine is {}", std::env::consts::ARCH),
            ),
        ] {
            let error = refused(Kind::Md, &path);
            let expected =
                format!("{} is no CTP library: {fault}; name the broker's libthostmduserapi_se.so", path.display());
            assert_eq!(error, expected);
        }
        // The right class, the wrong machine.
        (elf32[4], elf32[18]) = (2, if std::env::consts::ARCH == "aarch64" { 62 } else { 183 });
        let error = refused(Kind::Md, &at("other", &elf32));
        assert!(error.contains("it is built for ") && error.contains(", and this machine is "), "{error}");
        // A header that passes, and nothing behind it.
        elf32[18] = if std::env::consts::ARCH == "aarch64" { 183 } else { 62 };
        let path = at("head.so", &elf32);
        let error = refused(Kind::Md, &path);
        assert!(error.starts_with(&format!("cannot load the CTP library {}: ", path.display())), "{error}");
        assert!(error.contains("file too short"), "the linker's words: {error}");
    }
}
