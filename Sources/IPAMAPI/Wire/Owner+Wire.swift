import CMessages
import IPAMModel
import RPC

// Every string that reaches this file has been checked by RPC: valid UTF-8, no NUL inside.

/// Reads a message's string field.
func string(_ field: UnsafeMutablePointer<CChar>?) -> String {
    guard let field = unsafe field else { return "" }
    return unsafe String(cString: field)
}

extension Owner {
    /// Of a request. Throws INVALID_ARGUMENT naming the field below `path`.
    init(_ message: UnsafeMutablePointer<Wire.Owner>?, _ path: StaticString) throws(IPAMError) {
        try unsafe self.init(reading: message, path)
        try Rules.check(self, path)
    }

    /// By its syntax alone, as a server sent it. Throws INVALID_ARGUMENT where this version does not know its kind.
    init(reading message: UnsafeMutablePointer<Wire.Owner>?, _ path: StaticString) throws(IPAMError) {
        guard let owner = unsafe message?.pointee else { throw Rules.invalid("\(path)", "is needed") }
        guard let kind = unsafe UInt8(exactly: owner.kind.rawValue).flatMap(OwnerKind.init(rawValue:)) else {
            throw unsafe Rules.invalid(
                "\(path).kind",
                "\(owner.kind.rawValue) is no kind; give OWNER_KIND_VIRTUAL_MACHINE or OWNER_KIND_POD")
        }
        unsafe self.init(
            kind: kind, namespace: string(owner.namespace_), name: string(owner.name), uid: string(owner.uid),
            network: string(owner.network))
    }

    func wire(in arena: borrowing MessageArena) -> UnsafeMutablePointer<Wire.Owner> {
        let message = unsafe arena.make(Wire.Owner.self)
        unsafe message.pointee.kind = Holdfast__Ipam__V1__OwnerKind(rawValue: UInt32(kind.rawValue))
        unsafe message.pointee.namespace_ = arena.string(namespace)
        unsafe message.pointee.name = arena.string(name)
        unsafe message.pointee.uid = arena.string(uid)
        unsafe message.pointee.network = arena.string(network)
        return unsafe message
    }
}

extension Attachment {
    /// Of a request; nil when absent. Throws INVALID_ARGUMENT naming the field below `path`.
    static func read(
        _ message: UnsafeMutablePointer<Wire.Attachment>?, _ path: StaticString
    ) throws(IPAMError) -> Attachment? {
        guard let attachment = try unsafe readGone(message, path) else { return nil }
        guard !attachment.node.isEmpty else { throw Rules.invalid("\(path).node", "is needed") }
        guard !attachment.podUID.isEmpty || !attachment.containerID.isEmpty else {
            throw Rules.invalid("\(path).pod_uid", "is needed (or container_id): it tells this pod from another")
        }
        return attachment
    }

    /// The same for a pod that is gone, of which any part may be unknown by now.
    static func readGone(
        _ message: UnsafeMutablePointer<Wire.Attachment>?, _ path: StaticString
    ) throws(IPAMError) -> Attachment? {
        guard let attachment = try unsafe readAny(message, path) else { return nil }
        try Rules.check(attachment, path)
        return attachment
    }

    /// By its syntax alone, as a server sent it; nil when absent. Throws INVALID_ARGUMENT where its time cannot be held.
    static func readAny(
        _ message: UnsafeMutablePointer<Wire.Attachment>?, _ path: StaticString
    ) throws(IPAMError) -> Attachment? {
        guard let message = unsafe message?.pointee else { return nil }
        return Attachment(
            node: unsafe string(message.node), pod: unsafe string(message.pod),
            podUID: unsafe string(message.pod_uid), containerID: unsafe string(message.container_id),
            createdAt: try unsafe Timestamp.read(message.created_at, "\(path).created_at"))
    }

    func wire(in arena: borrowing MessageArena) -> UnsafeMutablePointer<Wire.Attachment> {
        let message = unsafe arena.make(Wire.Attachment.self)
        unsafe message.pointee.node = arena.string(node)
        unsafe message.pointee.pod = arena.string(pod)
        unsafe message.pointee.pod_uid = arena.string(podUID)
        unsafe message.pointee.container_id = arena.string(containerID)
        if let createdAt { unsafe message.pointee.created_at = createdAt.wire(in: arena) }
        return unsafe message
    }
}

extension Timestamp {
    /// Nil when absent. What 64 bits of nanoseconds cannot hold (before 1678, after 2261) is INVALID_ARGUMENT.
    static func read(
        _ message: UnsafeMutablePointer<Wire.Timestamp>?, _ path: @autoclosure Rules.Path
    ) throws(IPAMError) -> Timestamp? {
        guard let message = unsafe message?.pointee else { return nil }
        let limit: Int64 = 9_200_000_000
        guard unsafe (-limit...limit).contains(message.seconds), unsafe (0..<1_000_000_000).contains(message.nanos)
        else { throw Rules.invalid(path(), "is no timestamp between the years 1679 and 2261") }
        return unsafe Timestamp(nanoseconds: message.seconds * 1_000_000_000 + Int64(message.nanos))
    }

    func wire(in arena: borrowing MessageArena) -> UnsafeMutablePointer<Wire.Timestamp> {
        let message = unsafe arena.make(Wire.Timestamp.self)
        let (seconds, nanos) = nanoseconds.flooredDivision(by: 1_000_000_000)
        unsafe message.pointee.seconds = seconds
        unsafe message.pointee.nanos = Int32(nanos)
        return unsafe message
    }
}
