/// The wish to move an instance to another node, or to another instance (decentralized), and how far that got.
package struct VirtualMachineInstanceMigration: Hashable, Sendable {
    package var metadata: ObjectMeta
    package var vmiName: String
    package var phase: String?
    /// Of a decentralized migration: what its two halves have in common. This one is the source's.
    package var sends: String?
    /// The same; this one is the target's.
    package var receives: String?

    package init(
        metadata: ObjectMeta, vmiName: String, phase: String? = nil, sends: String? = nil, receives: String? = nil
    ) {
        self.metadata = metadata
        self.vmiName = vmiName
        self.phase = phase
        self.sends = sends
        self.receives = receives
    }

    /// One way or the other, for good.
    package var hasEnded: Bool { phase == "Succeeded" || phase == "Failed" }
}

extension VirtualMachineInstanceMigration: Decodable {
    private struct Half: Decodable { var migrationID: String }
    private struct Spec: Decodable {
        var vmiName: String
        var sendTo: Half?
        var receive: Half?
    }
    private struct Status: Decodable { var phase: String? }
    private enum CodingKeys: String, CodingKey { case metadata, spec, status }

    package init(from decoder: any Decoder) throws {
        let values = try decoder.container(keyedBy: CodingKeys.self)
        metadata = try values.decode(ObjectMeta.self, forKey: .metadata)
        let spec = try values.decode(Spec.self, forKey: .spec)
        vmiName = spec.vmiName
        // With both it is none (`IsDecentralized`, KubeVirt staging/src/kubevirt.io/api/core/v1/types.go).
        if (spec.sendTo == nil) != (spec.receive == nil) {
            (sends, receives) = (spec.sendTo?.migrationID, spec.receive?.migrationID)
        }
        phase = try values.decodeIfPresent(Status.self, forKey: .status)?.phase
    }
}
