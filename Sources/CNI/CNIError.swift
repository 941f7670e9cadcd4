/// An error as a CNI plugin prints it (CNI 1.1, section 5, "Error").
package struct CNIError: Error, Hashable, Sendable {
    package var code: Code
    /// What went wrong, in one sentence.
    package var message: String
    /// Why, and what to do.
    package var details: String

    package init(_ code: Code, _ message: String, details: String = "") {
        self.code = code
        self.message = message
        self.details = details
    }

    package struct Code: RawRepresentable, Hashable, Sendable {
        package var rawValue: Int
        package init(rawValue: Int) { self.rawValue = rawValue }

        // The specification's own (section 5, "Error").
        package static let incompatibleVersion = Code(rawValue: 1)
        /// The message names the variable.
        package static let invalidEnvironment = Code(rawValue: 4)
        package static let ioFailure = Code(rawValue: 5)
        package static let decodingFailure = Code(rawValue: 6)
        package static let invalidConfiguration = Code(rawValue: 7)
        /// The runtime may call again as it is.
        package static let tryAgainLater = Code(rawValue: 11)

        /// STATUS: no ADD can be served now.
        package static let notAvailable = Code(rawValue: 50)

        // This plugin's own: 100 and more.
        package static let internalFailure = Code(rawValue: 100)
        /// The server refused a field of the request.
        package static let invalidRequest = Code(rawValue: 101)
        /// No such pool, or no binding where there must be one.
        package static let notFound = Code(rawValue: 102)
        /// The address or MAC asked for belongs to another.
        package static let taken = Code(rawValue: 103)
        /// The pool has no free address, or the namespace's quota is used up.
        package static let exhausted = Code(rawValue: 104)
        /// What is asked for contradicts the binding as it is.
        package static let conflict = Code(rawValue: 105)
        /// The server does not let this node do it.
        package static let notPermitted = Code(rawValue: 106)
        /// An annotation of the pod has a value that cannot be honoured.
        package static let badAnnotation = Code(rawValue: 107)
        /// The delegate cannot be run, or did not do what it was told.
        package static let delegateFailure = Code(rawValue: 109)
        /// The pod has an interface of that name already.
        package static let interfaceExists = Code(rawValue: 110)
    }

    /// The error object; `version` as the configuration names it.
    package func json(version: String) -> JSON {
        var object: JSONObject = ["cniVersion": .string(version), "code": .number(String(code.rawValue))]
        object["msg"] = .string(message)
        if !details.isEmpty { object["details"] = .string(details) }
        return .object(object)
    }

    /// Reads an error object; nil where `json` is none: 0 is no error's code.
    package init?(_ json: JSON) {
        guard let code = json["code"]?.integer, code > 0, let message = json["msg"]?.string else { return nil }
        self.init(Code(rawValue: code), message, details: json["details"]?.string ?? "")
    }
}
