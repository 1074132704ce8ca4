//! Whether a container gets a sandbox of its own: what engines of Kubernetes say of pods in annotations.

use std::collections::HashMap;

use thiserror::Error;

/// The names under which containerd and CRI-O (as well as podman, for its pods) say what a container is, and in whose
/// sandbox.
const NAMES: [(&str, &str); 2] = [
    ("io.kubernetes.cri.container-type", "io.kubernetes.cri.sandbox-id"),
    ("io.kubernetes.cri-o.ContainerType", "io.kubernetes.cri-o.SandboxID"),
];

/// Where a container goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Placement {
    /// Into a sandbox of its own.
    Sandbox,
    /// Into that of another one, which keeps a pod's namespaces.
    Member {
        /// Id of the other.
        sandbox: String,
    },
}

/// Annotations that contradict themselves.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum PlacementError {
    /// The kind is none of those that CRI has.
    #[error("annotations: {name}: {value:?} is not \"sandbox\" or \"container\"")]
    Kind {
        /// The annotation.
        name: &'static str,
        /// What it says.
        value: String,
    },
    /// A container of a pod without the pod.
    #[error("annotations: {name}: missing, which names the sandbox of a container of a pod")]
    NoSandbox {
        /// The annotation.
        name: &'static str,
    },
}

impl Placement {
    /// What the annotations say.
    pub(super) fn of(annotations: Option<&HashMap<String, String>>) -> Result<Self, PlacementError> {
        let get = |name: &str| annotations.and_then(|all| all.get(name));
        let Some((kind_name, sandbox_name, kind)) =
            NAMES.iter().find_map(|&(kind, sandbox)| Some((kind, sandbox, get(kind)?)))
        else {
            return Ok(Self::Sandbox);
        };
        match kind.as_str() {
            "sandbox" => Ok(Self::Sandbox),
            "container" => match get(sandbox_name).filter(|id| !id.is_empty()) {
                Some(sandbox) => Ok(Self::Member { sandbox: sandbox.clone() }),
                None => Err(PlacementError::NoSandbox { name: sandbox_name }),
            },
            other => Err(PlacementError::Kind { name: kind_name, value: other.to_owned() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placement(annotations: &[(&str, &str)]) -> Result<Placement, PlacementError> {
        let all = annotations.iter().map(|&(name, value)| (name.to_owned(), value.to_owned()));
        Placement::of(Some(&all.collect()))
    }

    #[test]
    fn a_container_of_a_pod_goes_into_the_sandbox_that_is_named() {
        let member = Ok(Placement::Member { sandbox: "p".to_owned() });
        for (kind, sandbox) in NAMES {
            assert_eq!(placement(&[(kind, "container"), (sandbox, "p")]), member);
            assert_eq!(placement(&[(kind, "sandbox"), (sandbox, "p")]), Ok(Placement::Sandbox));
            assert_eq!(
                placement(&[(kind, "container"), (sandbox, "")]),
                Err(PlacementError::NoSandbox { name: sandbox })
            );
            assert!(matches!(placement(&[(kind, "pod")]), Err(PlacementError::Kind { .. })));
        }
    }

    #[test]
    fn without_annotations_every_container_has_a_sandbox() {
        assert_eq!(Placement::of(None), Ok(Placement::Sandbox));
        assert_eq!(placement(&[("io.kubernetes.cri.sandbox-id", "p")]), Ok(Placement::Sandbox));
    }
}
