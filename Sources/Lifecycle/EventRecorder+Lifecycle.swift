import IPAMModel
package import KubeVirt

extension EventRecorder: LifecycleEvents {
    package func mended(_ disagreement: Disagreement) {
        let binding = disagreement.binding
        let subject = ObjectEvent.Subject(binding.owner, standsAlone: disagreement.standsAlone)
        switch disagreement.remedy {
        case .free:
            record(ObjectEvent(subject, .released, "\(binding.eventText) freed: \(disagreement.reason)"))
        case .commit:
            let node = binding.target?.node ?? ""
            record(ObjectEvent(subject, .migrated, "\(binding.eventText) moved to node \(node)"))
        case .detach, .abort, .byHand: break
        }
    }
}
