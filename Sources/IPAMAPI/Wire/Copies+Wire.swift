import CMessages
package import IPAMModel
package import RPC

extension RenewCopiesRequest {
    package init(_ message: Wire.RenewCopiesRequest) throws(IPAMError) {
        for (count, field) in unsafe [(message.n_copies, "copies"), (message.n_dropped, "dropped")]
        where count > Self.largestCount {
            throw Rules.invalid(field, "has \(count) entries: at most \(Self.largestCount) in one call")
        }
        self.init(
            node: try unsafe Rules.objectName(string(message.node), "node"),
            copies: try unsafe messages(message.n_copies, message.copies) { item, _ throws(IPAMError) in
                unsafe BindingCopy(owner: try Owner(item.owner, "copies.owner"), revision: item.revision)
            },
            dropped: try unsafe messages(message.n_dropped, message.dropped) { item, _ throws(IPAMError) in
                unsafe DroppedCopy(owner: try Owner(item.owner, "dropped.owner"), ticket: item.ticket)
            })
    }

    package func wire(in arena: borrowing MessageArena) -> UnsafeMutablePointer<Wire.RenewCopiesRequest> {
        let message = unsafe arena.make(Wire.RenewCopiesRequest.self)
        unsafe message.pointee.node = arena.string(node)
        unsafe message.pointee.n_copies = copies.count
        unsafe message.pointee.copies = arena.array(copies.count) { index in
            let copy = unsafe arena.make(Wire.BindingCopy.self)
            unsafe copy.pointee.owner = copies[index].owner.wire(in: arena)
            unsafe copy.pointee.revision = copies[index].revision
            return unsafe copy
        }
        unsafe message.pointee.n_dropped = dropped.count
        unsafe message.pointee.dropped = arena.array(dropped.count) { index in
            let copy = unsafe arena.make(Wire.BindingCopy.self)
            unsafe copy.pointee.owner = dropped[index].owner.wire(in: arena)
            unsafe copy.pointee.ticket = dropped[index].ticket
            return unsafe copy
        }
        return unsafe message
    }
}

extension [RenewedCopy] {
    package func wire(in arena: borrowing MessageArena) -> UnsafeMutablePointer<Wire.RenewCopiesResponse> {
        let message = unsafe arena.make(Wire.RenewCopiesResponse.self)
        unsafe message.pointee.n_copies = count
        unsafe message.pointee.copies = arena.array(count) { unsafe self[$0].wire(in: arena) }
        return unsafe message
    }

    package init(_ message: Wire.RenewCopiesResponse) throws(IPAMError) {
        self = try unsafe messages(message.n_copies, message.copies) { item, index throws(IPAMError) in
            try unsafe RenewedCopy(item, "copies[\(index)]")
        }
    }
}

extension RenewedCopy {
    fileprivate func wire(in arena: borrowing MessageArena) -> UnsafeMutablePointer<Wire.RenewedCopy> {
        let message = unsafe arena.make(Wire.RenewedCopy.self)
        if let validFor { unsafe message.pointee.valid_for = validFor.wire(in: arena) }
        if let binding { unsafe message.pointee.binding = binding.wire(in: arena) }
        unsafe message.pointee.ticket = ticket
        return unsafe message
    }

    fileprivate init(_ message: Wire.RenewedCopy, _ path: String) throws(IPAMError) {
        self.init(
            validFor: try unsafe Delay.read(message.valid_for, "\(path).valid_for"), ticket: unsafe message.ticket)
        if let binding = unsafe message.binding {
            self.binding = try unsafe DescribedBinding(binding.pointee, "\(path).binding")
        }
    }
}
