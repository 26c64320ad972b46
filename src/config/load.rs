//! The only place of this room that reads files.

use std::cmp::Ordering;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::fault::FileFault;
use super::parse::{Include, include_lines};
use super::{Config, ConfigError, Overrides, Parsed, Source};
use crate::base::limits::{CONFIG_FILE_BYTES_MAX, CONFIG_FILES_MAX};

/// Reads and parses the file at `path` and what it includes.
pub fn load(path: &Path, overrides: &Overrides) -> Parsed {
    match read_with_includes(path) {
        Ok(main) => Config::parse(&main, overrides),
        Err(fault) => Parsed {
            config: Err(vec![ConfigError::unreadable(fault)]),
            notices: Vec::new(),
        },
    }
}

/// Reads the main file and the files of the directories that it includes.
fn read_with_includes(path: &Path) -> Result<Source, FileFault> {
    let mut main = read(path)?;
    let mut files_left = CONFIG_FILES_MAX;
    for (line, dir) in include_lines(&main.text) {
        // One file more than allowed, so that the parser sees that there are too many.
        let files = files_of(&dir).map(|mut paths| {
            paths.truncate(files_left.saturating_add(1));
            files_left = files_left.saturating_sub(paths.len());
            paths.iter().map(|path| read(path)).collect()
        });
        main.includes.push(Include { line, files });
    }
    Ok(main)
}

/// Reads one file. Symbolic links are followed, as in the original.
fn read(path: &Path) -> Result<Source, FileFault> {
    let shown = path.to_string_lossy().into_owned();
    let unreadable = |error: io::Error| FileFault::Unreadable {
        path: shown.clone(),
        cause: error.to_string(),
    };
    let file = File::open(path).map_err(unreadable)?;
    if file.metadata().map_err(unreadable)?.is_dir() {
        return Err(FileFault::IsDirectory { path: shown });
    }
    let mut text = Vec::new();
    let bytes_read = file
        .take(CONFIG_FILE_BYTES_MAX + 1)
        .read_to_end(&mut text)
        .map_err(unreadable)?;
    if bytes_read as u64 > CONFIG_FILE_BYTES_MAX {
        return Err(FileFault::TooLarge {
            path: shown,
            bytes_max: CONFIG_FILE_BYTES_MAX,
        });
    }
    Ok(Source {
        path: shown,
        text,
        includes: Vec::new(),
    })
}

/// The configuration files of a directory in the order in which they count.
fn files_of(dir: &str) -> Result<Vec<PathBuf>, FileFault> {
    let unopenable = |error: io::Error| FileFault::IncludeDir {
        path: dir.to_owned(),
        cause: error.to_string(),
    };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(unopenable)? {
        let name = entry.map_err(unopenable)?.file_name();
        if name.len() > ".conf".len() && name.as_bytes().ends_with(b".conf") {
            names.push(name);
        }
    }
    names.sort_by(|a, b| include_order(a, b));
    Ok(names.iter().map(|name| Path::new(dir).join(name)).collect())
}

/// The original's order: letter by letter without regard to case, and where two letters differ in case only, the
/// upper case comes first. So `A.conf`, `Ab.conf`, `a.conf`, `aB.conf`, `B.conf`, `b.conf`.
fn include_order(a: &OsStr, b: &OsStr) -> Ordering {
    let key = |name: &OsStr| -> Vec<(u8, u8)> {
        let bytes = name.as_bytes().iter();
        bytes.map(|b| (b.to_ascii_uppercase(), *b)).collect()
    };
    key(a).cmp(&key(b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::options;
    use std::fs;

    /// A directory of its own for each test, removed at the end.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(test: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("mosquitto-{test}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&dir);
            fs::create_dir(&dir).unwrap();
            Self(dir)
        }

        fn write(&self, name: &str, text: &str) -> PathBuf {
            let path = self.0.join(name);
            fs::write(&path, text).unwrap();
            path
        }

        fn show(&self) -> &str {
            self.0.to_str().unwrap()
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn lines(parsed: &Parsed) -> Vec<String> {
        let errors = parsed.config.as_ref().unwrap_err();
        errors.iter().flat_map(ConfigError::log_lines).collect()
    }

    #[test]
    fn included_files_count_in_the_order_of_the_original() {
        let scratch = Scratch::new("order");
        let dir = scratch.0.join("conf.d");
        fs::create_dir(&dir).unwrap();
        // The order that the original 2.0.11 showed for these names.
        let order = [
            "1", "A", "AB", "Ab", "a-b", "a", "a1", "aB", "ab", "B", "b", "Z", "_x",
        ];
        for name in order.iter().rev() {
            fs::write(dir.join(format!("{name}.conf")), "").unwrap();
        }
        for other in [".conf", "x.conf.old", "conf"] {
            fs::write(dir.join(other), "bogus\n").unwrap();
        }
        let main = scratch.write("main.conf", &format!("include_dir {}\n", dir.display()));
        let parsed = load(&main, &Overrides::default());
        let loaded: Vec<_> = parsed.notices.iter().map(|n| n.text.clone()).collect();
        let expected: Vec<_> = order
            .iter()
            .map(|name| format!("Loading config file {}/{name}.conf", dir.display()))
            .collect();
        assert_eq!(loaded, expected);
        assert!(parsed.config.is_ok());
    }

    #[test]
    fn an_error_in_an_included_file_names_both_lines() {
        let scratch = Scratch::new("both");
        let main = scratch.write("main", &format!("\ninclude_dir {}/\n", scratch.show()));
        let inner = scratch.write("in.conf", "# fine\nbogus 1\n");
        let parsed = load(&main, &Overrides::default());
        let (main, inner) = (main.display(), inner.display());
        assert_eq!(
            lines(&parsed),
            [
                format!(
                    "Error: {inner}:2: bogus: Unknown configuration variable \"bogus\", mosquitto.conf(5) lists \
                     those there are."
                ),
                format!("Error found at {inner}:2."),
                format!("Error found at {main}:2."),
            ]
        );
    }

    #[test]
    fn links_are_followed_and_directories_are_refused() {
        let scratch = Scratch::new("links");
        let target = scratch.write("target", "max_qos 1\nlistener 1\n");
        let link = scratch.0.join("link");
        std::os::unix::fs::symlink(&target, &link).unwrap();
        assert!(load(&link, &Overrides::default()).config.is_ok());
        assert_eq!(
            lines(&load(&scratch.0, &Overrides::default())),
            [format!(
                "Error: Config file {} is a directory.",
                scratch.show()
            )]
        );
        fs::create_dir(scratch.0.join("d.conf")).unwrap();
        let main = scratch.write("main", &format!("include_dir {}\n", scratch.show()));
        assert_eq!(
            lines(&load(&main, &Overrides::default()))[0],
            format!(
                "Error: {}:1: include_dir: Config file {}/d.conf is a directory.",
                main.display(),
                scratch.show()
            )
        );
    }

    #[test]
    fn a_missing_file_or_directory_is_an_error_as_in_the_original() {
        let scratch = Scratch::new("missing");
        let nowhere = scratch.0.join("nowhere");
        let text = lines(&load(&nowhere, &Overrides::default())).concat();
        let original = format!("Error: Unable to open config file {}", nowhere.display());
        assert!(text.starts_with(&original), "{text}");
        let main = scratch.write("main", &format!("include_dir {}\n", nowhere.display()));
        let text = lines(&load(&main, &Overrides::default())).join("\n");
        let original = format!("Unable to open include_dir '{}'", nowhere.display());
        assert!(text.contains(&original), "{text}");
        assert!(
            text.ends_with(&format!("Error found at {}:1.", main.display())),
            "{text}"
        );
    }

    #[test]
    fn a_file_beyond_the_limit_is_refused_whole() {
        let scratch = Scratch::new("large");
        let path = scratch.0.join("large");
        let file = File::create(&path).unwrap();
        file.set_len(CONFIG_FILE_BYTES_MAX + 1).unwrap();
        let text = lines(&load(&path, &Overrides::default())).concat();
        assert!(text.contains("is larger than"), "{text}");
    }

    #[test]
    fn the_sample_configuration_is_accepted_as_it_is() {
        let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/mosquitto.conf");
        let parsed = load(&sample, &Overrides::default());
        assert_eq!(parsed.notices, []);
        assert_eq!(parsed.config, Ok(Config::default_local()));
    }

    #[test]
    fn what_the_sample_configuration_shows_is_accepted_too() {
        let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/mosquitto.conf");
        let text = fs::read_to_string(sample).unwrap();
        let mut shown = 0;
        for line in text.lines() {
            let Some(line) = line.strip_prefix('#') else {
                continue;
            };
            // Prose has a space after the mark, an option to be turned on has none.
            if line.is_empty() || line.starts_with([' ', '#']) {
                continue;
            }
            let name = line.split(' ').next().unwrap();
            assert!(options::Row::find(name).is_some(), "{line}");
            let source = Source {
                path: "sample".into(),
                text: line.as_bytes().to_vec(),
                includes: vec![Include {
                    line: 1,
                    files: Ok(Vec::new()),
                }],
            };
            let parsed = Config::parse(&source, &Overrides::default());
            assert!(parsed.config.is_ok(), "{line}: {:?}", parsed.config);
            shown += 1;
        }
        assert!(shown > 15, "{shown} options");
    }
}
