import CMessages

/// A message struct of protoc-c's. Every conformance is generated; each such struct begins with a `ProtobufCMessage`.
package protocol ProtobufMessage: SendableMetatype {
    /// Makes an empty message of uninitialised memory.
    @unsafe static func initialize(_ message: UnsafeMutablePointer<Self>)
}

extension ProtobufMessage {
    /// What protoc-c knows of this message.
    static var descriptor: UnsafePointer<ProtobufCMessageDescriptor> {
        let message = UnsafeMutablePointer<Self>.allocate(capacity: 1)
        defer { unsafe message.deallocate() }
        unsafe initialize(message)
        return unsafe UnsafeRawPointer(message).load(as: ProtobufCMessage.self).descriptor
    }
}

/// A string field of a received message. That it holds no NUL and is UTF-8 was checked on the wire before, for every
/// string of the message; what is left to fail here is a message that did not come over the wire.
package func text(
    _ field: UnsafePointer<CChar>?, _ name: @autoclosure () -> String
) throws(RPCStatus) -> String {
    guard let field = unsafe field else { return "" }
    if unsafe field.pointee == 0 { return "" }
    guard let text = unsafe String(validatingCString: field) else { throw .badText(field: name()) }
    return text
}

extension RPCStatus {
    static func badText(field: String) -> RPCStatus {
        RPCStatus(
            .invalidArgument, "\(field): must be UTF-8 without NUL",
            errorInfo: ErrorInfo(reason: "INVALID_FIELD", domain: "holdfast", metadata: ["field": field]))
    }

    /// Bytes that no client of ours sends: the same ones will fare no better.
    static func badMessage(_ why: String, _ code: Code = .invalidArgument) -> RPCStatus {
        RPCStatus(code, why, errorInfo: ErrorInfo(reason: "INVALID_MESSAGE", domain: "holdfast"))
    }
}
