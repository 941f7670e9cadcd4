package import IPAMModel
package import KubeVirt

extension MigrationVerdict {
    /// `previous` is the reading before: something is gone only when two successive readings that show everything lack it.
    package init(on binding: Binding, in reading: Reading, previous: Reading?) {
        var missing: Missing = []
        if let previous, previous.showsWhatIsGone, reading.showsWhatIsGone {
            func lack(_ isThere: (ClusterObjects) -> Bool) -> Bool {
                !isThere(reading.objects) && !isThere(previous.objects)
            }
            if let target = binding.target, lack({ $0.pod(uid: target.podUID) != nil }) { missing.insert(.targetPod) }
            if lack({ $0.migration(uid: binding.migrationUID) != nil }) { missing.insert(.migration) }
        }
        self.init(on: binding, in: reading.objects, missing: missing)
    }
}
