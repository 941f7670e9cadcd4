import CMessages
package import IPAMModel
package import RPC

extension BindingPage {
    package func wire(in arena: borrowing MessageArena) -> UnsafeMutablePointer<Wire.ListBindingsResponse> {
        let message = unsafe arena.make(Wire.ListBindingsResponse.self)
        unsafe message.pointee.n_bindings = bindings.count
        unsafe message.pointee.bindings = arena.array(bindings.count) { unsafe bindings[$0].wire(in: arena) }
        unsafe message.pointee.next_page_token = arena.string(nextPageToken ?? "")
        unsafe message.pointee.revision = revision
        return unsafe message
    }

    package init(_ message: Wire.ListBindingsResponse) throws(IPAMError) {
        let token = unsafe string(message.next_page_token)
        self.init(
            bindings: try unsafe messages(message.n_bindings, message.bindings) { item, index throws(IPAMError) in
                try unsafe DescribedBinding(item, "bindings[\(index)]")
            },
            nextPageToken: token.isEmpty ? nil : token, revision: unsafe message.revision)
    }
}
