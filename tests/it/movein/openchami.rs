//! image-builder's and image-thrillhouse's YAML.

use super::{all_files, assert_row, assert_unknown_is_named, imported, names, rows, text, yaml_keys};
use crate::support::Space;

pub(super) const BASE: &str = "# A base layer.
options:
  layer_type: 'base'
  name: 'rocky-base'
  publish_tags: '9'
  pkg_manager: 'dnf'
  parent: 'scratch'
  publish_registry: 'registry.example/site'
  registry_opts_push:
    - '--tls-verify=false'

repos:
  - alias: 'Rocky_9_BaseOS'
    url: 'https://mirror.example/pub/rocky/9/BaseOS/x86_64/os/'
    gpg: 'https://mirror.example/pub/rocky/RPM-GPG-KEY-Rocky-9'
  - alias: 'Rocky_9_AppStream'
    url: 'https://mirror.example/pub/rocky/9/AppStream/x86_64/os/'
    gpg: 'https://mirror.example/pub/rocky/RPM-GPG-KEY-Rocky-9'
  - alias: 'Epel'
    url: 'https://epel.example/pub/epel/9/Everything/x86_64/'
  - alias: 'site'
    url: 'http://site.example/el9'
    priority: '10'

package_groups:
  - 'Minimal Install'

packages:
  - kernel
  - wget
  - nfs-utils chrony

remove_packages:
  - iwl-firmware

cmds:
  - cmd: 'dracut --add \"dmsquash-live livenet\" --kver $(basename /lib/modules/*) -N -f 2>/dev/null'
    loglevel: INFO
  - cmd: 'systemctl enable sshd && systemctl start sshd'
  - cmd: 'echo made-up | passwd root --stdin'
  - cmd: 'curl -o /opt/x https://x.example/y && chmod 755 /opt/x'
";

const COMPUTE: &str = "options:
  layer_type: base
  name: compute
  publish_tags: ['9', latest]
  pkg_manager: dnf
  parent: 'registry.example/site/rocky-base:9'
  publish_s3: 'http://s3.example'
  s3_prefix: 'compute/'
  s3_bucket: 'boot-images'
repos:
  - alias: OpenHPC
    url: 'http://ohpc.example/el9'
    gpg: 'http://ohpc.example/el9/repomd.xml.key'
packages: [slurm-slurmd-ohpc, munge]
copyfiles:
  - src: 'files/slurm.conf'
    dest: '/etc/slurm/slurm.conf'
    opts: ['--chmod 640', '--chown=slurm:slurm']
  - src: 'files/admin.pub'
    dest: '/root/.ssh/authorized_keys'
  - src: '/data/motd'
    dest: '/etc/'
cmds:
  - cmd: 'chown -R munge:munge /etc/munge'
";

const SUSE: &str = "options: {layer_type: base, name: suse-base, publish_tags: ['15.6'], pkg_manager: zypper, parent: 'registry.example/bci/bci-base:15.6', publish_local: true}
packages: [cloud-init, chrony]
";

const ANSIBLE: &str = "options:
  layer_type: 'ansible'
  name: 'ansible-layer'
  parent: 'registry.example/site/rocky9-base:9.5'
  groups: [compute]
  playbooks: 'playbooks/compute.yaml'
  inventory: 'inventory/'
  ansible_verbosity: '3'
";

const MODULES: &str = "options: {layer_type: base, name: alma-web, pkg_manager: dnf, parent: scratch, publish_local: true, publish_tags: v0.0.1}
repos:
  - {alias: b, url: 'https://mirror.example/almalinux/8/BaseOS/x86_64/os/'}
modules:
  enable: ['nodejs:18']
  disable: [php]
packages: [kernel]
cmds:
  - 'echo alma linux base'
";

const THRILLHOUSE: &str = "meta:
  name: th-rocky
  tags: [\"9.5\"]
  from: scratch
  labels:
    team: hpc
layer:
  manager:
    name: dnf
    options:
      releasever: \"9\"
      install-weak-deps: \"false\"
    config: |
      [main]
      gpgcheck=1
  env:
    set:
      SITE: cluster
      API_TOKEN: made-up-token-value
  repos:
    - path: /etc/yum.repos.d/rocky.repo
      content: |
        [rocky-baseos]
        name=rocky-baseos
        baseurl=https://mirror.example/pub/rocky/9/BaseOS/x86_64/os
        gpgcheck=1
        gpgkey=https://mirror.example/pub/rocky/RPM-GPG-KEY-Rocky-9
        [off]
        baseurl=https://mirror.example/off
        enabled=0
    - path: /etc/yum.repos.d/far.repo
      url: https://far.example/far.repo
  files:
    - path: /etc/site.conf
      content: |
        key=value
      mode: \"0640\"
      owner: \"root:adm\"
    - path: /etc/far.conf
      url: https://far.example/far.conf
  directories:
    - path: /opt/app
      src: ./tree
      excludes: ['*.tmp', cache]
  actions:
    install:
      packages: [kernel, systemd]
      groups: [Minimal Install]
      modules:
        - name: nodejs
          stream: \"18\"
          action: install
      remove_packages: [man-pages]
    commands:
      - run: systemctl disable firewalld
      - script: |
          #!/bin/bash
          if true; then
            echo root:made-up | chpasswd
          fi
      - ansible:
          playbook: x.yaml
          groups: [compute]
publish:
  - type: local
";

#[test]
fn layers_of_image_builder_become_recipes_that_inherit() {
    let space = Space::new();
    space.write("base.yaml", BASE).write("compute.yaml", COMPUTE);
    space.write("files/slurm.conf", "ClusterName=x\n").write(
        "files/admin.pub",
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl admin\n",
    );
    space.write("host/data/motd", "hello\n");
    let report = imported(&space, &["import", "openchami", "base.yaml", "compute.yaml", "--files", "host"]);
    let base = text(&space, "rocky-base", "image.toml");
    let parsed: toml::Table = base.parse().unwrap();
    // Repositories laid out as the distribution's are its own, with built-in keys.
    assert_eq!(parsed["repo"][0]["uri"].as_str(), Some("https://mirror.example/pub/rocky"), "{base}");
    assert_eq!(parsed["repo"][0]["components"].to_string(), "[\"baseos\", \"appstream\"]");
    assert_eq!(parsed["repo"][1]["components"].to_string(), "[\"epel\"]");
    // It installs a scratch image with --nogpgcheck.
    assert_eq!(
        (parsed["repo"][2]["check-packages"].as_bool(), parsed["repo"][2]["priority"].as_integer()),
        (Some(false), Some(10))
    );
    let list = text(&space, "rocky-base", "rocky-base.pkglist");
    assert_eq!(
        list.lines().skip(1).collect::<Vec<_>>(),
        ["@Minimal Install", "kernel", "wget", "nfs-utils", "chrony", "--iwl-firmware"]
    );
    assert_eq!(parsed["services"]["enable"].to_string(), "[\"sshd\"]");
    assert_row(&report, "cmds[0]", "differs", "[kernel] drivers");
    assert_row(&report, "cmds[2]", "decide", "openssl passwd -6");
    assert_row(&report, "cmds[3]", "decide", "needs a network");
    assert!(!all_files(&space).contains("made-up") && !report.to_string().contains("made-up"));
    let compute = text(&space, "compute", "image.toml");
    let parsed: toml::Table = compute.parse().unwrap();
    assert_eq!(
        (parsed["extends"].as_str(), parsed["image"]["release"].as_str()),
        (Some("../rocky-base/image.toml"), Some("9")),
        "{compute}"
    );
    assert_eq!(parsed["system"]["authorized_keys"].to_string(), "[\"keys/root.pub\"]");
    assert!(compute.contains("# signed-by = \"keys/OpenHPC-repomd.xml.key\""), "{compute}");
    let script = text(&space, "compute", "compute.d/run.sh");
    let at = |word: &str| script.find(word).unwrap_or_else(|| panic!("{word}: {script}"));
    assert!(at("put /etc/slurm/slurm.conf 0640 slurm:slurm") < at("chown -R munge:munge"), "{script}");
    assert!(script.contains("put /etc/motd 0644 0:0") && script.contains("which image-builder ignores"), "{script}");
}

#[test]
fn other_layers_of_image_builder_are_translated_or_named() {
    let space = Space::new();
    space.write("suse.yaml", SUSE).write("ansible.yaml", ANSIBLE).write("modules.yaml", MODULES);
    // SLES has no repositories without a registration: `check` asks for one.
    let ran = space.run(&["import", "openchami", "suse.yaml", "--into", "new"]).good();
    assert!(
        ran.out.contains("no repository is named") && ran.err.contains("imgbuild check finds errors in suse-base"),
        "{}{}",
        ran.out,
        ran.err
    );
    let recipe: toml::Table = text(&space, "suse-base", "image.toml").parse().unwrap();
    assert_eq!((recipe["image"]["distro"].as_str(), recipe["image"]["release"].as_str()), (Some("sles"), Some("15.6")));
    assert_eq!(recipe["image"]["from"].as_str(), Some("oci:registry.example/bci/bci-base:15.6"));
    std::fs::remove_dir_all(space.path().join("new")).unwrap();
    let report = imported(&space, &["import", "openchami", "modules.yaml"]);
    assert!(text(&space, "alma-web", "alma-web.pkglist").contains("@nodejs:18\n"));
    assert_row(&report, "modules.disable[0]", "decide", "cannot be disabled");
    let report = imported(&space, &["import", "openchami", "ansible.yaml"]);
    assert_row(&report, "options.layer_type", "decide", "Ansible");
    assert!(rows(&report, "options.playbooks").iter().all(|row| row.0 == "decide"));
    // Absolute paths are another host's, unless --files has them.
    space.write("compute.yaml", COMPUTE);
    let report = imported(&space, &["import", "openchami", "compute.yaml", "--name", "alone"]);
    assert_row(&report, "copyfiles[2]", "decide", "--files DIR");
    assert_row(&report, "copyfiles[0]", "decide", "is not read");
    assert!(text(&space, "alone", "image.toml").contains("from = \"oci:registry.example/site/rocky-base:9\""));
}

#[test]
fn configurations_of_image_thrillhouse_become_recipes() {
    let space = Space::new();
    space
        .write("th.yaml", THRILLHOUSE)
        .write("tree/a", "1\n")
        .write("tree/b.tmp", "1\n")
        .write("tree/cache/c", "1\n")
        .write("tree/.git/config", "x");
    let report = imported(&space, &["import", "openchami", "th.yaml"]);
    let recipe: toml::Table = text(&space, "th-rocky", "image.toml").parse().unwrap();
    assert_eq!(recipe["repo"][0]["components"].to_string(), "[\"baseos\"]");
    assert_eq!(recipe["services"]["disable"].to_string(), "[\"firewalld\"]");
    assert_eq!(recipe["environment"]["SITE"].as_str(), Some("cluster"));
    let script = text(&space, "th-rocky", "th-rocky.d/run.sh");
    assert!(script.contains("put /etc/site.conf 0640 root:adm") && script.contains("put /opt/app/a"), "{script}");
    for left in ["b.tmp", "cache", ".git"] {
        assert!(!script.contains(left), "{script}");
    }
    let written = all_files(&space);
    assert!(!written.contains("made-up") && !report.to_string().contains("made-up"), "{report:#}");
    assert_row(&report, "layer.files[1]", "decide", "is not fetched");
    assert_row(&report, "layer.repos[1]", "decide", "is not fetched");
    assert_row(&report, "layer.repos[0]", "stays", "it is off");
    assert_row(&report, "layer.actions.commands[2].ansible", "decide", "playbook");
    // The line is that of the file.
    let line = THRILLHOUSE.lines().position(|line| line.contains("chpasswd")).unwrap() as u64 + 1;
    assert!(
        rows(&report, "layer.actions.commands[1].script").iter().any(|row| row.1 == line && row.0 == "decide"),
        "{line} {report:#}"
    );
}

#[test]
fn manifests_with_variables_become_images_that_inherit() {
    let space = Space::new();
    space.write("manifest.yaml", "architectures:\n  - name: x86_64\n    var_files: [vars/x86_64.yaml]\n  - name: aarch64\n    var_files: [vars/aarch64.yaml]\nlayers:\n  - name: base\n    config: t/base.yaml\n  - name: compute\n    config: t/compute.yaml\n    depends_on: [base]\n");
    space.write("vars/x86_64.yaml", "suite: bookworm\nmirror: http://mirror.example/debian\n");
    space.write("t/base.yaml", "meta:\n  name: deb-base\n  tags: [\"{{ .tag }}\"]\n  from: scratch\nlayer:\n  manager:\n    name: mmdebstrap\n    options: {suite: \"{{ .suite }}\", mirror: \"{{ .mirror }}\", variant: minbase}\n  actions:\n    install: {packages: [systemd]}\n    files: [{path: /x}]\n");
    space.write("t/compute.yaml", "meta:\n  name: deb-compute\n  tags: [\"{{ .arch }}-{{ .tag }}\"]\n  from: localhost/deb-base:{{ .parent_tag }}\nlayer:\n  manager: {name: apt}\n  repos:\n    - path: /etc/apt/sources.list.d/x.list\n      content: deb [trusted=yes] http://x.example/d ./\n  actions: {install: {packages: [vim]}}\n");
    let report = imported(&space, &["import", "openchami", "manifest.yaml"]);
    let base: toml::Table = text(&space, "deb-base", "image.toml").parse().unwrap();
    assert_eq!(
        (base["image"]["release"].as_str(), base["repo"][0]["uri"].as_str()),
        (Some("bookworm"), Some("http://mirror.example/debian"))
    );
    let compute: toml::Table = text(&space, "deb-compute", "image.toml").parse().unwrap();
    assert_eq!(compute["extends"].as_str(), Some("../deb-base/image.toml"));
    assert_eq!(compute["repo"][0]["trusted"].as_bool(), Some(true));
    // The builder does not read it either.
    assert_row(&report, "layer.actions.files", "decide", "image-thrillhouse does not read it either");
    // What is not known is refused, with what helps.
    space.write("t/compute.yaml", "meta:\n  name: {{ range .x }}{{ end }}\n");
    let ran = space.run(&["import", "openchami", "manifest.yaml", "--into", "other"]);
    assert!(ran.code == 1 && ran.err.contains("image-thrillhouse render"), "{}", ran.err);
    assert!(!space.path().join("other").exists());
}

#[test]
fn nothing_of_a_layer_is_lost_in_silence() {
    let space = Space::new();
    space.write("files/slurm.conf", "ClusterName=x\n").write("tree/a", "1\n");
    let arguments = ["import", "openchami", "a.yaml"];
    for document in [BASE, COMPUTE, THRILLHOUSE] {
        // Names that the site chose are no keys of the format.
        let own = ["team", "SITE", "API_TOKEN"];
        let keys = yaml_keys(document).into_iter().filter(|range| !own.contains(&&document[range.clone()]));
        assert_unknown_is_named(&space, "a.yaml", &arguments, document, keys);
    }
    let report = imported(&space, &{
        space.write("a.yaml", COMPUTE);
        arguments
    });
    assert!(names(&report, "options.s3_bucket"));
}
