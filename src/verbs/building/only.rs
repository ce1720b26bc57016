//! `imgbuild build --only`: which actions of which images.

use std::collections::BTreeMap;
use std::str::FromStr;

use crate::Exit;
use crate::output::render;
use build::ids;
use plan::Stage;
use recipe::{Recipe, is_image_name};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Only {
    /// Its image; none where all that the command is for are meant.
    pub image: Option<String>,
    pub action: String,
}

impl FromStr for Only {
    type Err = String;

    /// `STAGE/LAYER` or `publish`, and an image's name with a slash before it.
    fn from_str(text: &str) -> Result<Self, String> {
        let is_stage = |word: &str| Stage::ALL.into_iter().any(|stage| stage.name() == word);
        let is_action = |text: &str| match text.split_once('/') {
            // No layer is called so: it is an image that has a stage's name.
            Some((_, ids::PUBLISH)) => false,
            Some((stage, layer)) => is_stage(stage) && !layer.is_empty() && !layer.contains('/'),
            None => text == ids::PUBLISH,
        };
        let (image, action) = match text.split_once('/') {
            _ if is_action(text) => (None, text),
            Some((image, action)) if is_image_name(image) && is_action(action) => (Some(image.to_owned()), action),
            _ => return Err("an action is rootfs/base or IMAGE/rootfs/base; `imgbuild plan` shows them".to_owned()),
        };
        Ok(Self { image, action: action.to_owned() })
    }
}

/// The images that a command is for: those that it names, or those that its actions name.
pub(crate) fn images(named: &[String], only: &[Only]) -> Vec<String> {
    let of_actions: Option<Vec<String>> = only.iter().map(|one| one.image.clone()).collect();
    if named.is_empty() { of_actions.unwrap_or_default() } else { named.to_vec() }
}

/// Leaves those images that an action is asked of.
/// Errors: [`Exit::Usage`] after it was said which action is of an image that the command is not for.
pub(crate) fn choose(only: &[Only], recipes: &mut Vec<Recipe>) -> Result<(), Exit> {
    let is_for =
        |one: &Only| one.image.as_deref().is_none_or(|image| recipes.iter().any(|recipe| is_of(recipe, image)));
    if let Some(Only { image: Some(image), action }) = only.iter().find(|one| !is_for(one)) {
        render::say(&format!(
            "error: --only {image}/{action} is of an image that this command is not for: name {image} too, or no image"
        ));
        return Err(Exit::Usage);
    }
    let is_asked =
        |recipe: &Recipe| only.iter().any(|one| one.image.as_deref().is_none_or(|image| is_of(recipe, image)));
    recipes.retain(|recipe| only.is_empty() || is_asked(recipe));
    Ok(())
}

fn is_of(recipe: &Recipe, image: &str) -> bool {
    recipe.model.image.name == image
}

pub(crate) fn by_image(only: &[Only], recipes: &[Recipe]) -> BTreeMap<String, Vec<String>> {
    let of = |name: &str| -> Vec<String> {
        let fits = |one: &&Only| one.image.as_deref().is_none_or(|image| image == name);
        only.iter().filter(fits).map(|one| one.action.clone()).collect()
    };
    recipes.iter().map(|recipe| recipe.model.image.name.clone()).map(|name| (name.clone(), of(&name))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_action_has_its_image_before_it_or_none() {
        let parsed = |text: &str| text.parse::<Only>().map(|one| (one.image, one.action));
        let of = |image: &str, action: &str| Ok((Some(image.to_owned()), action.to_owned()));
        assert_eq!(parsed("rootfs/base"), Ok((None, "rootfs/base".to_owned())));
        assert_eq!(parsed("publish"), Ok((None, "publish".to_owned())));
        assert_eq!(parsed("compute/publish"), of("compute", "publish"));
        // An image may be called as a stage is.
        assert_eq!(parsed("rootfs/kernel/payload"), of("rootfs", "kernel/payload"));
        assert_eq!(parsed("rootfs/publish"), of("rootfs", "publish"));
        for odd in ["", "/", "base", "a b/rootfs/base", "compute/base", "rootfs/", "x/rootfs/base/more", "-x/publish"] {
            assert!(parsed(odd).is_err(), "{odd}");
        }
    }
}
