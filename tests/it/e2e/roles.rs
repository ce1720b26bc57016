//! Roles: a playbook of Ansible changes the image in the sandbox, is cached as other actions are, and reaches nothing of the host.

use super::offline::assert_same;
use super::{locked_copy, store};
use crate::support::{Space, copy_locked};

/// What the playbook does, but for what a test adds.
const TASKS: &str = "\
- name: a template
  template: {src: motd.j2, dest: /etc/motd, mode: '0640', owner: games}
  notify: restart
- name: a file
  copy: {src: site.conf, dest: /etc/site.conf, owner: root, group: games, mode: '0600'}
- name: a line
  lineinfile: {path: /etc/issue, line: a line of the role}
- name: a user
  user: {name: webby, uid: 1234, create_home: false}
- name: a unit
  copy:
    dest: /etc/systemd/system/site.service
    content: |
      [Service]
      ExecStart=/bin/true
      [Install]
      WantedBy=multi-user.target
- name: a service
  service: {name: site, state: started}
- name: not really
  copy: {content: x, dest: /etc/never}
  check_mode: true
- name: in the background
  shell: sleep 1; echo done >/etc/background
  async: 30
  poll: 0
- name: what fails and is ignored
  command: /bin/false
  ignore_errors: true
- name: not in the image
  shell: mkdir -p $(dirname {{ canary }}) && echo x >{{ canary }}
  delegate_to: localhost
- name: restarts nothing
  reboot:
";

/// The tiny image with Python, systemd and a role.
fn with_role(tasks: &str, canary: &str) -> Space {
    let space = locked_copy();
    write_role(&space, tasks, canary);
    space
}

fn write_role(space: &Space, tasks: &str, canary: &str) {
    space.edit(
        "image.toml",
        "base = \"essential\"",
        "base = \"essential\"\ninstall = [\"python3\", \"passwd\", \"systemd\"]",
    );
    let role =
        format!("[[role]]\nansible = \"play/site.yml\"\ngroups = [\"web\"]\nvars = {{ canary = \"{canary}\" }}\n\n");
    space.edit("image.toml", "[postinstall]", &format!("{role}[postinstall]"));
    space.write("play/site.yml", "- name: the site\n  hosts: web\n  roles: [web]\n");
    space.write("play/group_vars/web.yml", "colour: green\n");
    space.write("play/roles/web/tasks/main.yml", tasks);
    space.write("play/roles/web/handlers/main.yml", "- name: restart\n  service: {name: site, state: restarted}\n");
    space.write("play/roles/web/files/site.conf", "site\n");
    let facts = "{{ ansible_hostname }} {{ ansible_date_time.year }} {{ ansible_is_chroot }}";
    space.write("play/roles/web/templates/motd.j2", &format!("{{{{ colour }}}} {facts}\n"));
}

fn inside(space: &Space, command: &str) -> String {
    space.run(&["shell", "--", "/bin/sh", "-c", command]).good().out
}

#[test]
fn network_a_role_changes_the_image_runs_again_alone_and_leaves_the_host_alone() {
    let canary = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(canary.path(), "untouched\n").unwrap();
    let space = with_role(TASKS, canary.path().to_str().unwrap());
    let ran = space.run(&["build", "--verify"]).good();
    assert_eq!(std::fs::read_to_string(canary.path()).unwrap(), "untouched\n");
    assert!(ran.err.contains("starts `site`") && ran.err.contains("restarts or stops"), "{}", ran.err);
    assert!(ran.err.contains("`web : what fails and is ignored`"), "{}", ran.err);
    let found = inside(
        &space,
        "cat /etc/motd /etc/site.conf /etc/background; stat -c '%a %U %G' /etc/motd /etc/site.conf; grep -c 'of the role' /etc/issue; id -u webby; ls /etc/systemd/system/multi-user.target.wants/site.service; test ! -e /etc/never; find / -xdev \\( -name .ansible -o -name .ansible_async \\)",
    );
    let year = "20";
    assert!(found.starts_with(&format!("green image {year}")) && found.contains(" True\nsite\ndone\n"), "{found}");
    assert!(found.contains("640 games root\n600 root games\n1\n1234\n"), "{found}");
    assert!(found.ends_with("multi-user.target.wants/site.service\n"), "{found}");
    // One template: the role alone, and what stands on it.
    space.write("play/roles/web/templates/motd.j2", "another\n");
    let plan = space.run(&["plan"]).good().out;
    assert!(plan.contains("play/roles/web/templates/motd.j2") && !plan.contains("rootfs/packages-1 run"), "{plan}");
    let ran = space.run(&["build"]).good();
    let line = ran.err.lines().find(|line| line.starts_with("ran ")).unwrap();
    assert!(line.starts_with("ran rootfs/role-site") && !line.contains("packages"), "{line}");
    assert_eq!(inside(&space, "cat /etc/motd"), "another\n");
    // Another directory and the same store, without what was built: the same bytes.
    let other = Space::new().with_store(&store());
    copy_locked(space.path(), other.path());
    other.run(&["build", "--locked"]).good();
    assert_same(&space, &other, "tiny");
}

#[test]
fn network_a_task_that_fails_is_named_with_file_line_and_remedy() {
    let space = with_role("- name: wants a package\n  apt: {name: nosuch, update_cache: true}\n", "/x");
    let ran = space.run(&["build"]);
    assert_eq!(ran.code, 4, "{}", ran.err);
    let said = ran.err.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(said.contains("play/roles/web/tasks/main.yml:1: the task `web : wants a package`"), "{}", ran.err);
    assert!(said.contains("roles have no network") && said.contains("[packages] install"), "{}", ran.err);
    assert!(!space.artefact("tiny", "rootimg.cpio.zst").exists());
    // The background counts, too.
    space.write("play/roles/web/tasks/main.yml", "- name: later\n  shell: sleep 1; exit 3\n  async: 30\n  poll: 0\n");
    let ran = space.run(&["build"]);
    assert!(ran.code == 4 && ran.err.contains("failed"), "{}", ran.err);
}

#[test]
fn network_an_image_without_python_is_refused_with_the_package() {
    let space = with_role(TASKS, "/x");
    space.edit("image.toml", "\"python3\", ", "");
    let ran = space.run(&["build"]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    assert!(ran.err.contains("needs Python in the image") && ran.err.contains("python3"), "{}", ran.err);
}
