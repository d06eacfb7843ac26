//! The hostile corpus: each kind refused with its reason, its member's name, exit code 3 and an untouched volume.

use crate::build::{CONFIG, Member, Tar, gzip, metadata, record, seed, seed_and, zip, zip_with, zstd};
use crate::rig::{Rig, inspect};

const UNSAFE: &str = "ArchiveUnsafe";
const INVALID: &str = "ArchiveInvalid";

/// A kind: what it is called, its bytes, its reason, and what the message must say.
struct Kind {
    name: &'static str,
    bytes: Vec<u8>,
    reason: &'static str,
    says: &'static str,
}

fn kind(name: &'static str, bytes: Vec<u8>, reason: &'static str, says: &'static str) -> Kind {
    Kind { name, bytes, reason, says }
}

/// Every kind, imported from a file; then looked at; both say the same.
fn refuse(kinds: Vec<Kind>) {
    for Kind { name, bytes, reason, says } in kinds {
        let rig = Rig::new();
        let archive = rig.archive("archive", &bytes);
        let imported = rig.import(&archive);
        assert_eq!(imported.said["reason"], reason, "{name}: {}", imported.said);
        let message = imported.failed(reason);
        assert!(message.contains(says), "{name}: {message}");
        rig.assert_untouched();
        assert_eq!(inspect(&archive).failed(reason), message, "{name}");
    }
}

/// A good beginning, one bad member, an end.
fn with(change: impl FnOnce(Tar) -> Tar) -> Vec<u8> {
    change(Tar::seed()).end()
}

#[test]
fn names() {
    let named = |name: &str| with(|tar| tar.file(name, b"x"));
    let long = "x".repeat(256);
    let deep = format!("m/model/{}x", "d/".repeat(2100));
    let folders = format!("m/model/{}x", "d/".repeat(127));
    refuse(vec![
        kind("absolute", named("/etc/cron.d/x"), UNSAFE, "/etc/cron.d/x"),
        kind("above", named("../x"), UNSAFE, "../x"),
        kind("above in the middle", named("m/model/../../../x"), UNSAFE, "m/model/../../../x"),
        kind("above at the end", named("m/model/.."), UNSAFE, "m/model/.."),
        kind("backslashes", named("m\\model\\x"), UNSAFE, "m\\\\model"),
        kind("backslashes above", named("m/model/..\\..\\x"), UNSAFE, "..\\\\"),
        kind("drive", named("C:/x"), UNSAFE, "C:/x"),
        kind("drive relative", named("C:x"), UNSAFE, "C:x"),
        kind("UNC", named("//host/share/x"), UNSAFE, "//host/share/x"),
        kind("UNC with backslashes", named("\\\\host\\share\\x"), UNSAFE, "host"),
        kind("NUL", with(|tar| tar.pax("path", b"m/model/a\0b").file("x", b"x")), UNSAFE, "m/model/a"),
        kind("line feed", named("m/model/a\nb"), UNSAFE, "m/model/a\\nb"),
        kind("escape", named("m/model/\u{1b}[2J"), UNSAFE, "m/model/"),
        kind("right to left", named("m/model/a\u{202e}nosj"), UNSAFE, "m/model/a"),
        kind("zero width", named("m/model/a\u{200b}"), UNSAFE, "m/model/a"),
        kind("full-width dots", named("m/model/\u{ff0e}\u{ff0e}/x"), UNSAFE, "m/model/"),
        kind("full-width slash", named("m/model/a\u{ff0f}b"), UNSAFE, "m/model/a"),
        kind("two dots in one", named("m/model/\u{2025}/x"), UNSAFE, "m/model/"),
        kind("NFKC slash", named("m/model/\u{2100}"), UNSAFE, "m/model/"),
        kind("not UTF-8", with(|tar| tar.member(b"m/model/\xff\xfe", b'0', b"", b"x")), UNSAFE, "m/model/"),
        kind("empty", with(|tar| tar.member(b"", b'0', b"", b"x")), UNSAFE, "empty"),
        kind("only the root", with(|tar| tar.member(b".", b'0', b"", b"x")), UNSAFE, "\".\""),
        kind(
            "long name",
            with(|tar| tar.pax("path", format!("m/model/{long}").as_bytes()).file("x", b"x")),
            UNSAFE,
            "m/model/xxx",
        ),
        kind("many folders", with(|tar| tar.pax("path", folders.as_bytes()).file("x", b"x")), UNSAFE, "m/model/d/d"),
        kind("long path", with(|tar| tar.pax("path", deep.as_bytes()).file("x", b"x")), UNSAFE, "m/model/d/d"),
    ]);
}

#[test]
fn names_that_clash() {
    refuse(vec![
        kind("twice", with(|tar| tar.file("m/model/config.json", b"other")), UNSAFE, "m/model/config.json"),
        kind("twice, same bytes", with(|tar| tar.file("m/model/config.json", CONFIG)), UNSAFE, "m/model/config.json"),
        kind("twice by ./", with(|tar| tar.file("./m//model/config.json", CONFIG)), UNSAFE, "m/model/config.json"),
        kind("metadata twice", with(Tar::metadata), UNSAFE, "m/model_metadata.json"),
        kind(
            "NFC and NFD",
            with(|tar| tar.file("m/model/\u{e9}", b"1").file("m/model/e\u{301}", b"2")),
            UNSAFE,
            "m/model/e",
        ),
        kind("file, then folder", with(|tar| tar.file("m/model/config.json/x", b"x")), UNSAFE, "m/model/config.json/x"),
        kind(
            "folder, then file",
            with(|tar| tar.file("m/model/a/b", b"x").file("m/model/a", b"x")),
            UNSAFE,
            "m/model/a",
        ),
        kind(
            "below a link",
            with(|tar| tar.symlink("m/model/l", "config.json").file("m/model/l/x", b"x")),
            UNSAFE,
            "m/model/l/x",
        ),
        kind(
            "link in a folder's place",
            with(|tar| tar.file("m/model/a/b", b"x").symlink("m/model/a", "/etc")),
            UNSAFE,
            "m/model/a",
        ),
        kind(
            "link, then file",
            with(|tar| tar.symlink("m/model/l", "/etc/passwd").file("m/model/l", b"x")),
            UNSAFE,
            "m/model/l",
        ),
    ]);
}

#[test]
fn links() {
    let link = |target: &str| with(|tar| tar.symlink("m/model/l", target));
    let hard = |target: &str| with(|tar| tar.hard_link("m/model/l", target));
    refuse(vec![
        kind("absolute link", link("/etc/passwd"), UNSAFE, "m/model/l"),
        kind("link above the root", link("../../../etc/passwd"), UNSAFE, "m/model/l"),
        kind("link to another root", link("../../other/x"), UNSAFE, "m/model/l"),
        kind("dangling link", link("nothing"), UNSAFE, "m/model/l"),
        kind(
            "link to a folder",
            with(|tar| tar.file("m/blobs/x", b"x").symlink("m/model/l", "../blobs")),
            UNSAFE,
            "m/model/l",
        ),
        kind("link to itself", link("l"), UNSAFE, "m/model/l"),
        kind(
            "links in a circle",
            with(|tar| tar.symlink("m/model/l", "k").symlink("m/model/k", "l")),
            UNSAFE,
            "m/model/",
        ),
        kind("link with a backslash", link("..\\x"), UNSAFE, "m/model/l"),
        kind("empty link", link(""), UNSAFE, "m/model/l"),
        kind(
            "model is a link",
            Tar::new().metadata().file("m/real/config.json", CONFIG).symlink("m/model", "real").end(),
            UNSAFE,
            "m/model",
        ),
        kind("hard link above", hard("../x"), UNSAFE, "m/model/l"),
        kind("absolute hard link", hard("/etc/passwd"), UNSAFE, "m/model/l"),
        kind("dangling hard link", hard("m/model/nothing"), UNSAFE, "m/model/l"),
        kind(
            "link through a link",
            with(|tar| tar.symlink("m/a", "model").symlink("m/model/l", "../a/config.json")),
            UNSAFE,
            "m/",
        ),
    ]);
}

#[test]
fn things_that_are_no_files() {
    let special = |byte| with(|tar| tar.member(b"m/model/x", byte, b"", b""));
    refuse(vec![
        kind("character device", special(b'3'), UNSAFE, "m/model/x"),
        kind("block device", special(b'4'), UNSAFE, "m/model/x"),
        kind("fifo", special(b'6'), UNSAFE, "m/model/x"),
        kind("device in .git", with(|tar| tar.member(b"m/model/.git/x", b'3', b"", b"")), UNSAFE, "m/model/.git/x"),
        kind("multi-volume", special(b'M'), INVALID, "m/model/x"),
        kind("unknown type", special(b'Z'), INVALID, "m/model/x"),
        kind(
            "socket in a zip",
            zip(&seed_and([Member { mode: 0o140_755, ..Member::new("m/model/x", b"") }])),
            UNSAFE,
            "m/model/x",
        ),
        kind(
            "device in a zip",
            zip(&seed_and([Member { mode: 0o060_644, ..Member::new("m/model/x", b"") }])),
            UNSAFE,
            "m/model/x",
        ),
    ]);
}

#[test]
fn tars_that_lie() {
    let mut bad_sum = Tar::header(b"m/model/x", b'0', 1, b"");
    bad_sum.as_old_mut().cksum = *b"0000000\0";
    let size = |field: [u8; 12]| {
        let mut header = Tar::header(b"m/model/x", b'0', 0, b"");
        header.as_old_mut().size = field;
        header.set_cksum();
        with(|tar| tar.raw(&header, b""))
    };
    let huge = Tar::header(b"m/model/x", b'0', 1 << 40, b"");
    let mut long = vec![b'a'; 1024 * 1024 + 1];
    long.push(0);
    let whole = Tar::seed().end();
    let without_end = Tar::seed().0;
    refuse(vec![
        kind("wrong checksum", with(|tar| tar.raw(&bad_sum, b"x")), INVALID, "m/model/x"),
        kind("negative size", size([0xff; 12]), INVALID, "m/model/x"),
        kind("impossible size", size(*b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff"), INVALID, "m/model/x"),
        kind("size of words", size(*b"lots of it!\0"), INVALID, "m/model/x"),
        kind("more than there is", with(|tar| tar.raw(&huge, b"x")), INVALID, "m/model/x"),
        kind("folder with data", with(|tar| tar.member(b"m/model/x/", b'5', b"", b"data")), INVALID, "m/model/x"),
        kind(
            "link with data",
            with(|tar| tar.member(b"m/model/x", b'2', b"config.json", b"data")),
            INVALID,
            "m/model/x",
        ),
        kind("no end marker", without_end.clone(), INVALID, "cut off"),
        kind("cut in a header", whole[..700].to_vec(), INVALID, "cut off"),
        kind("cut in data", without_end[..1030].to_vec(), INVALID, "cut off"),
        kind(
            "PAX header of garbage",
            with(|tar| tar.member(b"PaxHeaders/x", b'x', b"", b"99 path=x\n").file("x", b"")),
            INVALID,
            "PAX",
        ),
        kind(
            "two PAX headers",
            with(|tar| tar.pax("path", b"m/model/a").pax("path", b"m/model/b").file("x", b"")),
            INVALID,
            "PaxHeaders",
        ),
        kind(
            "global name",
            with(|tar| tar.member(b"g", b'g', b"", &record("path", b"m/model/x")).file("x", b"")),
            INVALID,
            "global",
        ),
        kind(
            "long GNU name",
            with(|tar| tar.member(b"././@LongLink", b'L', b"", &long).file("x", b"")),
            UNSAFE,
            "1 MiB",
        ),
        kind(
            "two GNU names",
            with(|tar| {
                tar.member(b"././@LongLink", b'L', b"", b"m/model/a\0")
                    .member(b"././@LongLink", b'L', b"", b"m/model/b\0")
                    .file("x", b"")
            }),
            INVALID,
            "@LongLink",
        ),
        kind(
            "GNU name before the end",
            with(|tar| tar.member(b"././@LongLink", b'L', b"", b"m/model/a\0")),
            INVALID,
            "cut off",
        ),
        kind("PAX sparse", with(|tar| tar.pax("GNU.sparse.map", b"0,1").file("m/model/x", b"x")), INVALID, "m/model/x"),
        kind(
            "wrong map of holes",
            with(|tar| tar.raw(&sparse(b"m/model/x", &[(0, 512), (100, 512)], 2000, 1024), &[7; 1024])),
            INVALID,
            "m/model/x",
        ),
        kind(
            "map behind the end",
            with(|tar| tar.raw(&sparse(b"m/model/x", &[(5000, 512)], 2000, 512), &[7; 512])),
            INVALID,
            "m/model/x",
        ),
        kind(
            "holes beyond reason",
            with(|tar| tar.raw(&sparse(b"m/model/x", &[(0, 512)], 1 << 32, 512), &[7; 512])),
            UNSAFE,
            "times as many",
        ),
    ]);
}

/// A header in the old form of GNU tar.
pub(crate) fn sparse(name: &[u8], spans: &[(u64, u64)], size: u64, data: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o644);
    header.set_size(data);
    header.set_entry_type(tar::EntryType::GNUSparse);
    let gnu = header.as_gnu_mut().unwrap();
    gnu.name[..name.len()].copy_from_slice(name);
    for (field, (at, length)) in gnu.sparse.iter_mut().zip(spans) {
        field.offset.copy_from_slice(format!("{at:011o}\0").as_bytes());
        field.numbytes.copy_from_slice(format!("{length:011o}\0").as_bytes());
    }
    gnu.realsize.copy_from_slice(format!("{size:011o}\0").as_bytes());
    header.set_cksum();
    header
}

#[test]
fn compressed_streams_that_lie() {
    let whole = Tar::seed().end();
    let (gz, zst) = (gzip(&whole), zstd(&whole));
    let changed = |bytes: &[u8], from_end: usize| {
        let mut bytes = bytes.to_vec();
        let at = bytes.len() - from_end;
        bytes[at] ^= 1;
        bytes
    };
    let bomb = Tar::seed().file("m/model/zeros", &vec![0; 80 << 20]).end();
    let window = {
        let mut encoder = ::zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(30).unwrap();
        encoder.include_contentsize(false).unwrap();
        std::io::Write::write_all(&mut encoder, &whole).unwrap();
        std::io::Write::flush(&mut encoder).unwrap();
        encoder.finish().unwrap()
    };
    refuse(vec![
        kind("gzip's checksum", changed(&gz, 8), INVALID, "damaged"),
        kind("gzip's length", changed(&gz, 1), INVALID, "damaged"),
        kind("gzip cut off", gz[..gz.len() - 4].to_vec(), INVALID, "cut off"),
        kind("something behind gzip", [&gz[..], b"PK and more of it"].concat(), INVALID, "damaged"),
        kind("zeros and more behind gzip", [&gz[..], &[0; 99], b"x"].concat(), INVALID, "follows"),
        kind("second gzip member cut off", [&gz[..], &gzip(b"more")[..15]].concat(), INVALID, ""),
        kind("zstd's checksum", changed(&zst, 1), INVALID, "damaged"),
        kind("zstd cut off", zst[..zst.len() - 2].to_vec(), INVALID, ""),
        kind("something behind zstd", [&zst[..], b"junk"].concat(), INVALID, ""),
        kind("gzip without a tar", gzip(b"hello"), INVALID, ""),
        kind("gzip in gzip", gzip(&gz), INVALID, ""),
        kind("gzip bomb", gzip(&bomb), UNSAFE, "times as many"),
        kind("zstd bomb", zstd(&bomb), UNSAFE, "times as many"),
        kind("zstd window", window, UNSAFE, "window"),
        kind("links that multiply", links_that_multiply(), UNSAFE, "times as many"),
    ]);
}

/// A file of 8 MiB under a thousand names: nothing in it is compressed, and it would become 8 GiB.
fn links_that_multiply() -> Vec<u8> {
    let tar = Tar::seed().file("m/model/big", &vec![7; 8 << 20]);
    (0..1000).fold(tar, |tar, number| tar.hard_link(&format!("m/model/l{number}"), "m/model/big")).end()
}

#[test]
fn zips_that_lie() {
    let x = || Member::new("m/model/x", b"hello");
    let one = |member: Member| zip(&seed_and([member]));
    let whole = zip(&seed());
    let twice = zip(&seed_and([Member::new("m/model/config.json", b"other")]));
    let comment = |end: &mut Vec<u8>| {
        // A second end record in the comment of the first.
        let second = end.clone();
        end[20..22].copy_from_slice(&(second.len() as u16).to_le_bytes());
        end.extend_from_slice(&second);
    };
    let unicode = |name: &[u8], of: &[u8]| {
        let mut field = vec![0x75, 0x70];
        field.extend_from_slice(&((5 + name.len()) as u16).to_le_bytes());
        field.push(1);
        field.extend_from_slice(&crc32fast::hash(of).to_le_bytes());
        field.extend_from_slice(name);
        field
    };
    let fat = |name: &str| Member { made_by: 0, mode: 0, ..Member::new(name, b"x") };
    let nowhere = |end: &mut Vec<u8>| {
        let mut locator = b"PK\x06\x07\0\0\0\0".to_vec();
        locator.extend_from_slice(&u64::MAX.to_le_bytes());
        locator.extend_from_slice(&1_u32.to_le_bytes());
        end.splice(0..0, locator);
    };
    refuse(vec![
        kind("a zip64 locator that points nowhere", zip_with(&seed(), nowhere), INVALID, "zip64"),
        kind("encrypted", one(Member { flags: 1, ..x() }), INVALID, "m/model/x"),
        kind("strongly encrypted", one(Member { flags: 1 << 6 | 1, ..x() }), INVALID, "m/model/x"),
        kind("masked headers", one(Member { flags: 1 << 13, ..x() }), INVALID, "m/model/x"),
        kind("bzip2 in a zip", one(Member { method: 12, ..x() }), INVALID, "m/model/x"),
        kind("AES in a zip", one(Member { method: 99, ..x() }), INVALID, "m/model/x"),
        kind(
            "other name in the local header",
            one(Member { local_name: Some(b"m/model/y".to_vec()), ..x() }),
            INVALID,
            "m/model/x",
        ),
        kind("other checksum in the local header", one(Member { wrong_local_sum: 1, ..x() }), INVALID, "m/model/x"),
        kind("wrong checksum", one(Member { wrong_sum: 1, ..x() }), INVALID, "m/model/x"),
        kind("wrong size", one(Member { wrong_size: 1, ..x() }.deflated()), INVALID, "m/model/x"),
        kind("descriptor that differs", one(Member { wrong_local_sum: 1, ..x() }.described()), INVALID, "m/model/x"),
        kind(
            "corrupt deflate",
            one(Member { data: b"hello, hello".to_vec(), ..x() }.deflated()).spoilt(),
            INVALID,
            "m/model/x",
        ),
        kind("overlapping members", one(Member { at: Some(0), ..x() }), INVALID, "overlaps"),
        kind("member in the directory", one(Member { at: Some(500), ..x() }), INVALID, "m/model/x"),
        kind("twice in a zip", twice, UNSAFE, "m/model/config.json"),
        kind("split", zip_with(&seed(), |end| end[4] = 1), INVALID, "split"),
        kind("member on another disk", one(Member { disk: 3, ..x() }), INVALID, "split"),
        kind("two end records", zip_with(&seed(), comment), INVALID, "end record"),
        kind("stub before a zip", [b"PK\x03\x04stub", &whole[..]].concat(), INVALID, "before"),
        kind("program before a zip", [b"MZ\x90\0", &whole[..]].concat(), INVALID, "program"),
        kind(
            "fewer members than promised",
            zip_with(&seed(), |end| end[8..12].copy_from_slice(&[3, 0, 3, 0])),
            INVALID,
            "",
        ),
        kind(
            "more members than promised",
            zip_with(&seed(), |end| end[8..12].copy_from_slice(&[1, 0, 1, 0])),
            INVALID,
            "more members",
        ),
        kind("cut off zip", whole[..whole.len() - 10].to_vec(), INVALID, "cut off"),
        kind("other Unicode name", one(Member { extra: unicode(b"../../x", b"m/model/x"), ..x() }), UNSAFE, "../../x"),
        kind("stale Unicode name", one(Member { extra: unicode(b"m/model/y", b"other"), ..x() }), INVALID, "m/model/x"),
        kind("above in a zip", one(Member::new("../x", b"x")), UNSAFE, "../x"),
        kind("backslash in a zip of Unix", one(Member::new("m\\model\\x", b"x")), UNSAFE, "m\\\\model"),
        kind("above in a zip of FAT", one(fat("m\\..\\..\\x")), UNSAFE, "m/../../x"),
        kind("UNC in a zip of FAT", one(fat("\\\\host\\x")), UNSAFE, "//host/x"),
        kind("drive in a zip of FAT", one(fat("c:\\x")), UNSAFE, "c:/x"),
        kind(
            "link in a zip",
            one(Member { mode: 0o120_777, ..Member::new("m/model/l", b"/etc/passwd") }),
            UNSAFE,
            "m/model/l",
        ),
        kind(
            "long link in a zip",
            one(Member { mode: 0o120_777, ..Member::new("m/model/l", &[b'a'; 5000]) }),
            UNSAFE,
            "m/model/l",
        ),
        kind("folder with data in a zip", one(Member { mode: 0o040_755, ..x() }), INVALID, "m/model/x"),
        kind("zip bomb", one(Member::new("m/model/x", &vec![0; 80 << 20]).deflated()), UNSAFE, "times as many"),
    ]);
}

trait Spoil {
    fn spoilt(self) -> Self;
}

impl Spoil for Vec<u8> {
    /// Spoils the deflated bytes of the last member, which are found behind its local header.
    fn spoilt(mut self) -> Self {
        let name = b"m/model/x";
        let at = self.windows(name.len()).position(|window| window == name).unwrap() + name.len();
        self[at] = 0xff;
        self
    }
}

#[test]
fn structures() {
    let tar = |names: &[&str]| names.iter().fold(Tar::new(), |tar, name| tar.file(name, metadata().as_bytes())).end();
    refuse(vec![
        kind("empty", Vec::new(), INVALID, "empty"),
        kind("empty tar", Tar::new().end(), INVALID, "no root folder"),
        kind("empty zip", zip(&[]), INVALID, "no root folder"),
        kind("no root folder", tar(&["model/config.json", "model_metadata.json"]), INVALID, "└── model_metadata.json"),
        kind(
            "no root folder, metadata first",
            tar(&["model_metadata.json", "model/config.json"]),
            INVALID,
            "└── model_metadata.json",
        ),
        kind("no metadata", tar(&["m/model/config.json"]), INVALID, "model_metadata.json"),
        kind("no model", tar(&["m/model_metadata.json"]), INVALID, "`model`"),
        kind("empty model", Tar::new().metadata().folder("m/model/").end(), INVALID, "`model`"),
        kind("model is a file", tar(&["m/model_metadata.json", "m/model"]), INVALID, "`model`"),
        kind("two roots", tar(&["m/model_metadata.json", "n/model/config.json"]), INVALID, "\"n\""),
        kind("only .git", Tar::new().metadata().file("m/model/.git/config", b"x").end(), INVALID, "`model`"),
        kind("text", b"hello, world\n".to_vec(), INVALID, "no archive"),
        kind("xz", b"\xfd7zXZ\0\0\0".to_vec(), INVALID, "xz"),
        kind("7z", b"7z\xbc\xaf\x27\x1c".to_vec(), INVALID, "7z"),
        kind("web page", b"<html>404</html>".to_vec(), INVALID, "web page"),
        kind("LFS pointer", with(|tar| tar.file("m/model/model.safetensors", POINTER)), INVALID, "git lfs install"),
        kind(
            "LFS pointer by a link",
            with(|tar| tar.file("m/blobs/x", POINTER).symlink("m/model/weights", "../blobs/x")),
            INVALID,
            "m/model/weights",
        ),
    ]);
}

const POINTER: &[u8] = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n";

#[test]
fn metadata_that_is_wrong() {
    let of = |text: &str| {
        Tar::new().file("m/model_metadata.json", text.as_bytes()).file("m/model/config.json", CONFIG).end()
    };
    let more =
        |more: &str| of(&format!(r#"{{"modelDefinition":{{"key":"hf@org/tiny"}},"url":"u","version":0{more}}}"#));
    let nested = format!(r#","x":{}{}"#, "[".repeat(100), "]".repeat(100));
    let long = format!(r#","x":"{}""#, "y".repeat(1024 * 1024));
    refuse(vec![
        kind("no JSON", of("hello"), INVALID, "model_metadata.json"),
        kind(
            "no UTF-8",
            Tar::new().file("m/model_metadata.json", b"\xff\xfe{}").file("m/model/x", b"").end(),
            INVALID,
            "UTF-8",
        ),
        kind("a field twice", more(r#","url":"v""#), INVALID, "`url`"),
        kind("a field of another type", more(r#","tags":"a""#), INVALID, "`tags`"),
        kind("negative size", more(r#","sizeInBytes":-1"#), INVALID, "`sizeInBytes`"),
        kind("deep", more(&nested), INVALID, "nested"),
        kind("long", more(&long), INVALID, "longer than"),
        kind("a short commit", more(r#","commitHash":"main""#), INVALID, "`commitHash`"),
        kind(
            "a commit in capitals",
            more(r#","commitHash":"7DBBC90392E2F80F3D3C277D6E90027E55DE9125""#),
            INVALID,
            "`commitHash`",
        ),
        kind("no key", of(r#"{"url":"u","version":0}"#), INVALID, "modelDefinition"),
        kind(
            "a key that leaves",
            of(r#"{"modelDefinition":{"key":"hf@../../x"},"url":"u","version":0}"#),
            INVALID,
            "modelDefinition.key",
        ),
        kind(
            "a key with two dashes",
            of(r#"{"modelDefinition":{"key":"hf@a--b/c"},"url":"u","version":0}"#),
            INVALID,
            "modelDefinition.key",
        ),
        kind(
            "version null",
            of(r#"{"modelDefinition":{"key":"hf@a/b"},"url":"u","version":null}"#),
            INVALID,
            "`version`",
        ),
        kind(
            "version 0.0",
            of(r#"{"modelDefinition":{"key":"hf@a/b"},"url":"u","version":0.0}"#),
            INVALID,
            "`version`",
        ),
        kind(
            "version 1",
            of(r#"{"modelDefinition":{"key":"hf@a/b"},"url":"u","version":1}"#),
            "UnsupportedVersion",
            "version",
        ),
        kind("sums of garbage", with(|tar| tar.file("m/SHA256SUMS", b"garbage")), INVALID, "SHA256SUMS"),
    ]);
}

#[test]
fn lists_that_do_not_match() {
    let list = |text: String| with(|tar| tar.file("m/SHA256SUMS", text.as_bytes()));
    let right = format!("{}  model/config.json\n", crate::fakehub::sha256(CONFIG));
    let other = crate::fakehub::sha256(b"other");
    refuse(vec![
        kind("wrong digest", list(format!("{other}  model/config.json\n")), "ChecksumMismatch", "model/config.json"),
        kind("not listed", list(String::new()), "ChecksumMismatch", "model/config.json"),
        kind("missing", list(format!("{right}{other}  model/more\n")), "ChecksumMismatch", "model/more"),
    ]);
}
