//! What comes from a site's other tools and goes back to them: xCAT's definitions now, bundles, media and nodes beside them.
//!
//! Reading formats is [`xcat`]'s; here they become recipes, and recipes become them again. Nothing here prints, and
//! nothing is built.

pub mod bundle;
pub mod capture;
pub mod definitions;
pub mod export;
pub mod media;
pub mod nodes;
pub mod osimage;
pub mod rootimg;
pub mod workspace;
