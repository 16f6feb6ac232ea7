//! Runs the corpus and random inputs without libFuzzer.

use std::fs;
use std::path::Path;

use secgroup_fuzz::Target;

#[test]
fn every_input_of_the_corpus_keeps_the_invariants() {
    for target in Target::ALL {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name());
        let files = fs::read_dir(&directory)
            .unwrap_or_else(|error| panic!("list {}: {error}", directory.display()));
        let (mut inputs, mut results) = (0, 0);
        for file in files {
            let path = file.unwrap().path();
            println!("{}", path.display());
            results += target.run(&fs::read(&path).unwrap());
            inputs += 1;
        }
        println!("{}: {inputs} inputs, {results} results", target.name());
        assert!(results > 100, "the corpus of {} has too few results: {results}", target.name());
    }
}

#[test]
fn random_inputs_keep_the_invariants() {
    for target in Target::ALL {
        let mut random = secgroup_fuzz::plain::Random(1);
        let mut buffer = secgroup_fuzz::plain::buffer();
        let results: u64 = (0..2000).map(|_| target.run(random.input(&mut buffer))).sum();
        assert!(results > 2000, "{}: {results} results", target.name());
    }
}
