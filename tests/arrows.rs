//! The arrows between the rooms (docs/ARCHITECTURE.md), held against the text of `src/`.
//!
//! Read as text, not compiled: what a room must not know is a rule about words, and a reader can check it the same way.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on shall panic")]

use std::path::{Path, PathBuf};

/// A room, and the rooms that it may name.
const ARROWS: &[(&str, &[&str])] = &[
    ("ident", &[]),
    ("format", &["ident"]),
    ("hub", &["ident", "format"]),
    ("engine", &["ident", "format", "hub"]),
    ("serve", &["ident", "format"]),
    ("api", &["ident"]),
    // The controller's pure rooms: config, plan, build.
    ("controller", &["ident", "format", "api"]),
    ("controller/shell", &["ident", "format", "api", "controller"]),
    ("kubectl", &["ident", "format", "api"]),
    ("cli", &["ident", "format", "hub", "engine", "serve", "api", "controller", "controller/shell", "kubectl"]),
    ("main", &["cli", "hub"]),
];

/// A word, the rooms where it must not be, the files of those rooms where it may be, and why.
struct Ban {
    words: &'static [&'static str],
    rooms: &'static [&'static str],
    except: &'static [&'static str],
    why: &'static str,
}

const EVERYWHERE: &[&str] = &[
    "ident",
    "format",
    "hub",
    "engine",
    "serve",
    "api",
    "controller",
    "controller/shell",
    "kubectl",
    "cli",
    "main",
    "lib",
];

const BANS: &[Ban] = &[
    Ban {
        words: &["tokio", "async", ".await", "futures", "reqwest", "axum", "hyper"],
        rooms: &["ident", "format", "api", "controller"],
        except: &[],
        why: "pure rooms wait for nothing",
    },
    Ban {
        words: &[
            "kube::Client",
            "kube::Api",
            "kube::client",
            "kube::api",
            "kube::runtime",
            "kube::{Api",
            "kube::{Client",
        ],
        rooms: &["ident", "format", "api", "controller"],
        except: &[],
        why: "only the shell talks to Kubernetes",
    },
    Ban {
        words: &["SystemTime", "Instant", "Timestamp::now", "Zoned::now", "std::env", "env::var"],
        rooms: &["ident", "format", "api", "controller"],
        except: &[],
        why: "pure rooms have no clock and no environment: both are arguments",
    },
    Ban {
        words: &["std::fs", "std::net", "std::process", "std::thread"],
        rooms: &["ident", "api", "controller"],
        except: &[],
        why: "pure rooms do no I/O",
    },
    Ban {
        words: &["kube", "k8s_openapi"],
        rooms: &["ident", "format", "hub", "engine", "serve"],
        except: &[],
        why: "the worker and the Hub know nothing of Kubernetes",
    },
    Ban {
        words: &["process::exit", "process::abort", "ExitCode"],
        rooms: EVERYWHERE,
        except: &["src/main.rs"],
        why: "the process ends in one place",
    },
    Ban {
        words: &["PostParams", "PatchParams", "DeleteParams", "EvictParams", ".publish(", "kube::core::Request"],
        rooms: &["api", "controller", "controller/shell", "kubectl", "cli", "main"],
        except: &["src/controller/shell/write.rs", "src/kubectl/write.rs"],
        why: "Kubernetes is written in one place by the operator, and in one by a person's commands",
    },
    Ban {
        words: &[".create(", ".patch(", ".patch_status(", ".delete(", ".delete_collection(", ".evict("],
        rooms: &["api", "controller", "controller/shell", "kubectl"],
        except: &["src/controller/shell/write.rs", "src/kubectl/write.rs"],
        why: "Kubernetes is written in one place by the operator, and in one by a person's commands",
    },
    Ban {
        words: &[
            "fs::write",
            "fs::rename",
            "fs::remove",
            "fs::create_dir",
            "fs::hard_link",
            "OpenOptions",
            "File::create",
        ],
        rooms: &["ident", "format", "hub", "engine", "serve"],
        except: &["src/engine/volume"],
        why: "a volume is written in one place",
    },
    Ban {
        words: &["/resolve/", "/api/models"],
        rooms: &["ident", "format", "engine", "api", "controller", "controller/shell", "cli"],
        except: &[],
        why: "the Hub's addresses are known in hub, which asks for them, and serve, which answers them",
    },
];

/// Everything in a file that breaks an arrow or meets a ban.
fn complaints(file: &str, text: &str) -> Vec<String> {
    let Some(room) = room_of_file(file) else { return Vec::new() };
    if room == "lib" {
        return ban_complaints(file, room, &without_comments(text));
    }
    let allowed = ARROWS.iter().find(|(name, _)| *name == room).map_or(&[] as &[_], |(_, allowed)| allowed);
    // Tests may use what is in the same room and the rooms below, like any other code; bans are for the program.
    let code = without_comments(text);
    let mut found = Vec::new();
    for path in paths(&module_of(file), &without_strings(&code)) {
        let Some(target) = room_of_path(&path) else { continue };
        if target != room && !allowed.contains(&target) {
            found.push(format!("{file}: {room} must not know {target}: {}", path.join("::")));
        }
    }
    found.extend(ban_complaints(file, room, without_tests(&code)));
    found
}

fn ban_complaints(file: &str, room: &str, code: &str) -> Vec<String> {
    let is_test = file.contains("/tests/") || file.ends_with("/tests.rs") || file.ends_with("/fixture.rs");
    if is_test {
        return Vec::new();
    }
    let mut found = Vec::new();
    for ban in BANS {
        if ban.rooms.contains(&room) && !ban.except.iter().any(|place| file.starts_with(place)) {
            let words = ban.words.iter().filter(|word| has_word(code, word));
            found.extend(words.map(|word| format!("{file}: `{word}`: {}", ban.why)));
        }
    }
    found
}

/// Whether a word is there, and not as a part of a longer one.
fn has_word(code: &str, word: &str) -> bool {
    let part_of_name = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    code.match_indices(word).any(|(at, _)| {
        let starts_name = part_of_name(word.chars().next());
        let ends_name = part_of_name(word.chars().last());
        // `fs::remove` stands for `fs::remove_file` too: a path is matched by its beginning.
        let whole_end = !ends_name || word.contains("::") || !part_of_name(code[at + word.len()..].chars().next());
        (!starts_name || !part_of_name(code[..at].chars().last())) && whole_end
    })
}

/// The room of a file such as `src/controller/shell/write.rs`.
fn room_of_file(file: &str) -> Option<&'static str> {
    match file {
        "src/main.rs" => return Some("main"),
        "src/lib.rs" => return Some("lib"),
        _ => {}
    }
    room_of_path(&module_of(file))
}

/// The room of a module's path below the crate's root.
fn room_of_path(path: &[String]) -> Option<&'static str> {
    let first = path.first()?;
    if first == "controller" && path.get(1).is_some_and(|second| second == "shell") {
        return Some("controller/shell");
    }
    ARROWS.iter().map(|(name, _)| *name).find(|name| name == first)
}

/// `src/a/b.rs` and `src/a/b/mod.rs` are the module `a::b`.
fn module_of(file: &str) -> Vec<String> {
    let path = file.strip_prefix("src/").unwrap_or(file);
    let path = path.strip_suffix("/mod.rs").or_else(|| path.strip_suffix(".rs")).unwrap_or(path);
    path.split('/').map(str::to_owned).collect()
}

/// Every path in the code that begins with `crate`, `super` or this crate's name, from the crate's root.
fn paths(module: &[String], code: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for start in ["crate::", "modelcache::", "super::"] {
        for (at, _) in code.match_indices(start) {
            let before = code[..at].chars().last();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
                continue;
            }
            let mut base = Vec::new();
            let mut rest = &code[at..];
            if start == "super::" {
                base = module.to_vec();
                while let Some(next) = rest.strip_prefix("super::") {
                    base.pop();
                    rest = next;
                }
            } else {
                rest = &rest[start.len()..];
            }
            tree(&base, rest, &mut found);
        }
    }
    found
}

/// The paths of a use tree (`a::{b, c::d}`), or of a plain path; returns what follows it.
fn tree<'a>(base: &[String], text: &'a str, found: &mut Vec<Vec<String>>) -> &'a str {
    let mut path = base.to_vec();
    let mut rest = text.trim_start();
    loop {
        if let Some(inside) = rest.strip_prefix('{') {
            rest = inside.trim_start();
            while !rest.is_empty() && !rest.starts_with('}') {
                let before = rest.len();
                rest = tree(&path, rest, found).trim_start();
                rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
                if rest.len() == before {
                    // Not a use tree after all.
                    return rest;
                }
            }
            return rest.strip_prefix('}').unwrap_or(rest);
        }
        let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
        if end == 0 {
            found.push(path);
            return rest.strip_prefix('*').unwrap_or(rest);
        }
        path.push(rest[..end].to_owned());
        rest = &rest[end..];
        let Some(next) = rest.strip_prefix("::") else {
            found.push(path);
            let rest = rest.trim_start();
            return rest
                .strip_prefix("as ")
                .map_or(rest, |named| named.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_' || c == ' '));
        };
        rest = next.trim_start();
    }
}

/// The code without `//` comments. (Block comments are not used here; rustfmt's style has none.)
fn without_comments(text: &str) -> String {
    let lines = text.lines().map(|line| {
        let mut quoted = false;
        let mut last = ' ';
        for (at, c) in line.char_indices() {
            match c {
                '"' if last != '\\' => quoted = !quoted,
                '/' if last == '/' && !quoted => return &line[..at - 1],
                _ => {}
            }
            last = c;
        }
        line
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The code with every text in quotes left out.
fn without_strings(code: &str) -> String {
    let mut kept = String::new();
    let mut quoted = false;
    let mut last = ' ';
    for c in code.chars() {
        if c == '"' && last != '\\' && last != '\'' {
            quoted = !quoted;
        }
        if !quoted {
            kept.push(c);
        }
        last = if last == '\\' && c == '\\' { ' ' } else { c };
    }
    kept
}

/// The code before the file's unit tests.
fn without_tests(code: &str) -> &str {
    let mut from = 0;
    while let Some(at) = code[from..].find("#[cfg(test)]") {
        let start = from + at;
        let after = code[start + "#[cfg(test)]".len()..].trim_start();
        // `#[cfg(test)] mod tests;` is a file of its own.
        if after.starts_with("mod ") && after.find('{').is_some_and(|open| !after[..open].contains(';')) {
            return &code[..start];
        }
        from = start + 1;
    }
    code
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn every_arrow_points_the_right_way() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    sources(&top.join("src"), &mut files);
    let mut found = Vec::new();
    let mut seen = std::collections::BTreeSet::new();
    for path in &files {
        let file = path.strip_prefix(top).unwrap().to_str().unwrap().replace('\\', "/");
        let room = room_of_file(&file);
        seen.extend(room);
        if room.is_none() {
            found.push(format!("{file} is in no room: add the room and its arrows here and to docs/ARCHITECTURE.md"));
        }
        found.extend(complaints(&file, &std::fs::read_to_string(path).unwrap()));
    }
    assert!(found.is_empty(), "{} wrong arrows:\n{}", found.len(), found.join("\n"));
    // A test that reads nothing finds nothing.
    let missing: Vec<_> = ARROWS.iter().map(|(room, _)| *room).filter(|room| !seen.contains(room)).collect();
    assert!(missing.is_empty(), "no file of these rooms was read: {missing:?}");
}

#[test]
fn arrows_never_turn_back() {
    for (room, allowed) in ARROWS {
        for other in *allowed {
            let back = ARROWS.iter().find(|(name, _)| name == other).is_some_and(|(_, of)| of.contains(room));
            assert!(!back, "{room} and {other} know each other");
        }
    }
}

mod can_fail {
    use super::complaints;

    #[track_caller]
    fn refused(file: &str, text: &str, word: &str) {
        let found = complaints(file, text);
        assert!(found.iter().any(|line| line.contains(word)), "{file}: {text}\ngave {found:?}");
    }

    #[track_caller]
    fn taken(file: &str, text: &str) {
        let found = complaints(file, text);
        assert!(found.is_empty(), "{file}: {text}\ngave {found:?}");
    }

    #[test]
    fn on_a_use_of_a_room_above() {
        refused("src/ident/mod.rs", "use crate::format::task::Task;", "must not know format");
        refused("src/format/task.rs", "use crate::engine::Settings;", "must not know engine");
        refused("src/hub/api.rs", "use crate::{engine, ident};", "must not know engine");
        refused("src/api/entry.rs", "use crate::format::task::Task;", "must not know format");
        refused("src/serve/http.rs", "use crate::hub::Hub;", "must not know hub");
        refused("src/engine/fetch.rs", "fn f() -> crate::cli::Cli {}", "must not know cli");
        refused("src/main.rs", "use modelcache::engine::run;", "must not know engine");
        taken("src/engine/fetch.rs", "use crate::hub::{Hub, Login};\nuse crate::{format::sums, ident::Sha256};");
        taken("src/main.rs", "use modelcache::cli::{self, Cli};");
    }

    #[test]
    fn on_the_shell_in_a_pure_room() {
        refused(
            "src/controller/plan/decide.rs",
            "use crate::controller::shell::observe;",
            "must not know controller/shell",
        );
        refused(
            "src/controller/plan/decide.rs",
            "use crate::controller::{build, shell};",
            "must not know controller/shell",
        );
        refused("src/controller/config.rs", "use super::shell::Options;", "must not know controller/shell");
        refused(
            "src/controller/build/job.rs",
            "use super::super::{plan::Wanted, shell};",
            "must not know controller/shell",
        );
        taken("src/controller/shell/mod.rs", "use super::plan::decide;");
    }

    #[test]
    fn on_super_that_climbs_out_of_a_room() {
        refused("src/ident/path.rs", "use super::super::format;", "must not know format");
        taken("src/ident/path.rs", "mod tests { use super::*; use super::super::Commit; }");
    }

    #[test]
    fn on_a_clock_a_client_or_a_file_in_a_pure_room() {
        for text in [
            "use kube::{Api, Client};",
            "use kube::Client;",
            "fn f() { let now = Timestamp::now(); }",
            "use std::time::{Duration, SystemTime};",
            "let home = std::env::var(\"HOME\");",
            "let text = std::fs::read(path);",
            "pub async fn decide() {}",
            "tokio::spawn(x);",
        ] {
            assert!(!complaints("src/controller/plan/decide.rs", text).is_empty(), "{text}");
        }
        taken("src/controller/plan/decide.rs", "use kube::Resource;\nuse std::time::Duration;\nlet asynchronous = 1;");
        taken("src/controller/plan/decide.rs", "// No SystemTime here, and nothing async.\nfn f() {}");
        taken(
            "src/controller/plan/decide.rs",
            "fn f() {}\n#[cfg(test)]\nmod tests {\n  use std::fs;\n  use std::time::SystemTime;\n}",
        );
        refused("src/controller/plan/mod.rs", "#[cfg(test)]\nmod tests;\nuse std::env::var;", "environment");
    }

    #[test]
    fn on_a_write_outside_its_one_place() {
        refused("src/controller/shell/observe.rs", "api.patch_status(n, &p, &x).await", "one place");
        refused("src/controller/shell/leader.rs", "use kube::api::PostParams;", "one place");
        refused("src/cli/get.rs", "api.delete(n, &DeleteParams::default()).await", "one place");
        refused("src/kubectl/adopt.rs", "api.create(&how, &entry).await", "one place");
        taken("src/controller/shell/write.rs", "api.delete(n, &DeleteParams::default()).await");
        refused("src/engine/download.rs", "std::fs::remove_file(p)", "one place");
        taken("src/engine/volume/dir.rs", "std::fs::remove_file(p)");
        refused("src/engine/fetch.rs", "let url = format!(\"{e}/{r}/resolve/{c}/{p}\");", "addresses");
    }

    #[test]
    fn on_an_exit_in_the_middle() {
        refused("src/cli/worker.rs", "std::process::exit(1)", "ends in one place");
        taken("src/main.rs", "std::process::exit(1)");
    }

    #[test]
    fn on_kubernetes_in_the_worker() {
        refused("src/engine/mod.rs", "use k8s_openapi::api::core::v1::Pod;", "nothing of Kubernetes");
        refused("src/serve/mod.rs", "use kube::Client;", "nothing of Kubernetes");
    }
}
