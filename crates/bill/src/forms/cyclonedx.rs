//! CycloneDX 1.6 in JSON. Source: <https://cyclonedx.org/docs/1.6/json/>.

use serde_json::{Value, json};

use base::digest::Sha256;

use crate::model::Bill;

/// A UUID of a digest. Source: RFC 9562, version 8.
fn uuid(digest: &Sha256) -> String {
    let mut bytes = digest.0;
    bytes[6] = 0x80 | bytes[6] & 0x0f;
    bytes[8] = 0x80 | bytes[8] & 0x3f;
    let hex = data_encoding::HEXLOWER.encode(&bytes[..16]);
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

fn component(kind: &str, reference: String, name: &str) -> Value {
    json!({"type": kind, "bom-ref": reference, "name": name})
}

fn with_digest(mut component: Value, digest: Option<Sha256>) -> Value {
    if let Some(digest) = digest {
        component["hashes"] = json!([{"alg": "SHA-256", "content": digest.to_string()}]);
    }
    component
}

fn with_property(mut component: Value, name: &str, value: Option<String>) -> Value {
    if let Some(value) = value {
        component["properties"] = json!([{"name": format!("imgbuild:{name}"), "value": value}]);
    }
    component
}

pub(crate) fn document(bill: &Bill) -> Value {
    const IMAGE: &str = "image";
    let image = &bill.image;
    let mut components = Vec::new();
    let of_lock = bill.lock.map(|digest| (recipe::LOCK_FILE, digest));
    let parts = image.parts().map(|one| (one.name.as_str(), one.sha256)).chain(of_lock);
    for (name, sha256) in parts {
        components.push(with_digest(component("file", format!("artefact:{name}"), name), Some(sha256)));
    }
    for (number, driver) in image.own_drivers.iter().enumerate() {
        components.push(component("device-driver", format!("driver:{number}:{driver}"), driver));
    }
    for (number, one) in bill.packages.iter().enumerate() {
        let purl = bill.purl(one);
        let mut all = component("library", format!("{number}:{purl}"), &one.name);
        all["version"] = one.version.clone().into();
        if let Some(supplier) = &one.supplier {
            all["supplier"] = json!({"name": supplier});
        }
        all = with_digest(all, one.sha256);
        all["purl"] = purl.into();
        let source =
            one.source.as_ref().map(|source| format!("{} {}", source.name, source.version).trim_end().to_owned());
        components.push(with_property(all, "source", source));
    }
    for file in &bill.files {
        let is_driver = file.path.contains("/modules/") && file.path.contains(".ko");
        let kind = if is_driver { "device-driver" } else { "file" };
        let path = format!("/{}", file.path);
        let all = with_digest(component(kind, format!("file:{path}"), &path), Some(file.sha256));
        components.push(with_property(all, "changed-from-package", file.changed.clone()));
    }
    for (url, (part, files)) in bill.parts() {
        let kind = if part.is_driver { "device-driver" } else { "library" };
        let mut all = component(kind, format!("part:{url}"), &part.name);
        all["version"] = part.version.clone().into();
        all["purl"] = url.into();
        all["properties"] =
            files.iter().map(|path| json!({"name": "imgbuild:file", "value": format!("/{path}")})).collect();
        components.push(all);
    }
    let references: Vec<Value> = components.iter().map(|one| one["bom-ref"].clone()).collect();
    let mut document = json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": "",
        "version": 1,
        "metadata": {
            "timestamp": image.time(),
            "tools": {"components": [{"type": "application", "name": "imgbuild", "version": env!("CARGO_PKG_VERSION")}]},
            "component": {
                "type": "operating-system",
                "bom-ref": IMAGE,
                "name": image.name,
                "version": image.identity().short(),
                "properties": [
                    {"name": "imgbuild:target", "value": image.target},
                    {"name": "imgbuild:kernel-release", "value": image.kernel_release},
                ],
            },
        },
        "components": components,
        "dependencies": [{"ref": IMAGE, "dependsOn": references}],
    });
    let digest = Sha256::of(document.to_string().as_bytes());
    document["serialNumber"] = format!("urn:uuid:{}", uuid(&digest)).into();
    document
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Format;
    use crate::model::tests::{INSTALLED, bill, lock};

    #[test]
    fn the_serial_number_is_of_what_the_document_says() {
        let of = |document: &str| {
            serde_json::from_str::<Value>(document).unwrap()["serialNumber"].as_str().unwrap().to_owned()
        };
        let (plain, again) = (bill(None).document(Format::CycloneDx), bill(None).document(Format::CycloneDx));
        assert_eq!(plain, again);
        let serial = of(&plain);
        let parts: Vec<usize> = serial.strip_prefix("urn:uuid:").unwrap().split('-').map(str::len).collect();
        assert_eq!(
            (parts, serial.as_bytes()[23], matches!(serial.as_bytes()[28], b'8' | b'9' | b'a' | b'b')),
            (vec![8, 4, 4, 4, 12], b'8', true)
        );
        assert_ne!(of(&bill(Some(&lock(&INSTALLED))).document(Format::CycloneDx)), serial);
    }

    #[test]
    fn what_is_in_the_image_is_listed_once_with_its_digest() {
        let document: Value = serde_json::from_str(&bill(Some(&lock(&INSTALLED))).document(Format::CycloneDx)).unwrap();
        let all = document["components"].as_array().unwrap();
        let of = |name: &str| all.iter().find(|one| one["name"] == name).unwrap();
        for name in ["kernel", "image.lock", "libc6", "/opt/tool"] {
            assert_eq!(of(name)["hashes"][0]["alg"], "SHA-256", "{name}");
        }
        assert_eq!((&of("drivers/mlx")["type"], &of("libc6")["type"]), (&"device-driver".into(), &"library".into()));
        assert_eq!(of("libc6")["properties"][0]["value"], "glibc 2.36-9+deb12u9");
        assert_eq!(of("/etc/python.conf")["properties"][0]["value"], "python3");
        let mut references: Vec<&str> = all.iter().map(|one| one["bom-ref"].as_str().unwrap()).collect();
        references.sort_unstable();
        let count = references.len();
        references.dedup();
        assert_eq!(
            (references.len(), document["dependencies"][0]["dependsOn"].as_array().unwrap().len()),
            (count, count)
        );
    }
}
