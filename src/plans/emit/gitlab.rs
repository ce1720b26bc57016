//! A pipeline of GitLab CI. Source: docs.gitlab.com, "CI/CD YAML syntax reference".

use std::fmt::Write;

use super::quote::{shell, yaml};
use super::{Emission, Engine};

pub(super) fn text_of(emission: &Emission) -> String {
    let mut text = emission.head(Engine::Gitlab);
    text.push_str(
        "stages: [images]\n.imgbuild:\n  stage: images\n  tags: [imgbuild]\n  rules:\n    - if: $CI_COMMIT_BRANCH == $CI_DEFAULT_BRANCH\n",
    );
    for step in &emission.steps {
        let before: Vec<String> = emission.before(step).map(|one| yaml(one.name())).collect();
        // Without the list a job would wait for all of the stage before.
        let _ = write!(
            text,
            "{}:\n  extends: .imgbuild\n  needs: [{}]\n  script:\n    - {}\n",
            yaml(step.name()),
            before.join(", "),
            yaml(&emission.command(step))
        );
        if let Some(image) = emission.published(step) {
            let collect = format!("tar -C {} -chf {image}.tar {image}", shell(&emission.out));
            let _ = write!(
                text,
                "    - {}\n  artifacts:\n    paths: [{}]\n",
                yaml(&collect),
                yaml(&format!("{image}.tar"))
            );
        }
    }
    text
}
