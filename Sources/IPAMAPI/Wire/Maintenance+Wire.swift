import CMessages
package import IPAMModel
package import RPC

extension RestorePiece {
    package init(_ message: Wire.RestoreRequest) throws(IPAMError) {
        let uploadID = unsafe string(message.upload_id)
        guard !uploadID.isEmpty else { throw Rules.invalid("upload_id", "is needed: it tells one attempt from another") }
        self.init(
            uploadID: try Rules.identifier(uploadID, "upload_id"), offset: unsafe message.offset,
            data: unsafe Array(UnsafeBufferPointer(start: message.data.data, count: message.data.len)),
            finishes: unsafe message.finish != 0)
    }

    package func wire(in arena: borrowing MessageArena) -> UnsafeMutablePointer<Wire.RestoreRequest> {
        let message = unsafe arena.make(Wire.RestoreRequest.self)
        unsafe message.pointee.upload_id = arena.string(uploadID)
        unsafe message.pointee.offset = offset
        unsafe message.pointee.data = arena.bytes(data)
        unsafe message.pointee.finish = finishes ? 1 : 0
        return unsafe message
    }
}

extension RestoreOutcome {
    package func wire(in arena: borrowing MessageArena) -> UnsafeMutablePointer<Wire.RestoreResponse> {
        let message = unsafe arena.make(Wire.RestoreResponse.self)
        unsafe message.pointee.pools = pools
        unsafe message.pointee.bindings = bindings
        unsafe message.pointee.freed = freed
        unsafe message.pointee.history = history
        unsafe message.pointee.revision = revision
        if let givesFrom { unsafe message.pointee.gives_from = givesFrom.wire(in: arena) }
        return unsafe message
    }

    package init(_ message: Wire.RestoreResponse) throws(IPAMError) {
        self.init()
        (pools, bindings, freed, history, revision) = unsafe (
            message.pools, message.bindings, message.freed, message.history, message.revision
        )
        givesFrom = try unsafe Timestamp.read(message.gives_from, "gives_from")
    }
}
