//! usage: make_study COUNT ROWS FOLDER SEED — a synthetic CT study as Part 10 files.

use std::path::PathBuf;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [count, rows, folder, seed] = arguments.as_slice() else { panic!("usage: make_study COUNT ROWS FOLDER SEED") };
    let number = |text: &str| text.parse::<u16>().expect("a number up to 65535");
    let folder = PathBuf::from(folder);
    std::fs::create_dir_all(&folder).expect("the folder can be made");
    for slice in testkit::samples::ct_study(number(count), number(rows), u64::from(number(seed))) {
        std::fs::write(folder.join(&slice.file_name), &slice.part10).expect("the folder can be written");
    }
}
