//! A page of the Hub's listing, chosen from and planned: no name may leave the model's folder, whatever the Hub says.

use modelcache::engine::{plan::Plan, select::select};
use modelcache::format::sums::Sums;
use modelcache::format::task::FileChoice;
use modelcache::hub::Page;
use modelcache::ident::{ModelRef, Sha256};
use std::path::Component;

pub(crate) fn check(json: &[u8]) {
    let Ok(page) = serde_json::from_slice::<Page>(json) else { return };
    let Ok(listed) = page.files() else { return };
    let model = ModelRef { repo: "org/name".parse().unwrap(), revision: None };
    let commit = "7dbbc90392e2f80f3d3c277d6e90027e55de9125".parse().unwrap();
    let Ok(chosen) = select(listed, &FileChoice::default(), None) else { return };
    for ignores_case in [false, true] {
        let Ok(plan) = Plan::new(model.clone(), commit, chosen.clone(), ignores_case) else { continue };
        for file in &plan.files {
            let mut names = file.path.as_path().components();
            assert!(names.all(|name| matches!(name, Component::Normal(_))), "{:?}", file.path);
        }
        // What is planned can be written down and read again.
        let sums: Sums = plan.files.iter().map(|file| (file.path.clone(), Sha256::from_bytes([7; 32]))).collect();
        assert_eq!(Sums::parse(&sums.to_string()).unwrap(), sums);
        assert_eq!(sums.len(), plan.files.len());
    }
}
