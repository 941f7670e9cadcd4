/// A version of the CNI specification that the plugin speaks.
package enum CNIVersion: String, Hashable, Sendable, CaseIterable, Comparable {
    case v0_3_0 = "0.3.0"
    case v0_3_1 = "0.3.1"
    case v0_4_0 = "0.4.0"
    case v1_0_0 = "1.0.0"
    case v1_1_0 = "1.1.0"

    package static let newest = CNIVersion.v1_1_0

    package static func < (a: Self, b: Self) -> Bool {
        (allCases.firstIndex(of: a) ?? 0) < (allCases.firstIndex(of: b) ?? 0)
    }

    /// Whether this version has the verb.
    package func has(_ verb: Invocation.Verb) -> Bool {
        switch verb {
        case .add, .del, .version: true
        case .check: self >= .v0_4_0
        case .gc, .status: self >= .v1_1_0
        }
    }
}
