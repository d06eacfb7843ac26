//! Archives of models: one root folder with `model/**` and `model_metadata.json` in it, as tar or zip (design, archives).

pub mod write;
