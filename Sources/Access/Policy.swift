package import Foundation
package import IPAMModel
import Yams

/// Who may what: which tokens and certificates have which roles.
///
/// ```yaml
/// agent:
///   serviceAccounts: [holdfast/holdfast-agent]
/// operator:
///   groups: [system:serviceaccounts:holdfast-ops]
///   certificates: [holdfast-operator]
/// ```
package struct Policy: Hashable, Sendable {
    package struct Subjects: Hashable, Sendable {
        /// NAMESPACE/NAME.
        package var serviceAccounts: Set<String> = []
        package var groups: Set<String> = []
        /// Common or alternative names; one that ends with `*` stands for all that begin so.
        package var certificates: Set<String> = []

        package init() {}
    }

    package var agent = Subjects()
    package var `operator` = Subjects()
    package var reader = Subjects()

    package init() {}

    /// Without a file: whoever has a certificate of the client CA may do everything.
    package static let anyCertificate: Policy = {
        var policy = Policy()
        policy.operator.certificates = ["*"]
        return policy
    }()

    /// Throws INVALID_ARGUMENT, naming the place.
    package init(yaml content: Data, source: String) throws(IPAMError) {
        func invalid(_ why: String) -> IPAMError {
            IPAMError(.invalidArgument, .invalidField, "\(source): \(why)", metadata: ["field": "--policy"])
        }
        let roles: [String: [String: [String]]]
        do {
            let text = String(decoding: content, as: UTF8.self)
            roles = try YAMLDecoder().decode([String: [String: [String]]?].self, from: text).compactMapValues(\.self)
        } catch {
            throw invalid(
                "is no policy: give roles (agent, operator, reader), each with serviceAccounts, groups or certificates, "
                    + "lists of names")
        }
        for (role, lists) in roles {
            var subjects = Subjects()
            for (kind, names) in lists {
                if names.contains("") { throw invalid("\(role).\(kind): a name is empty") }
                switch kind {
                case "serviceAccounts":
                    for name in names where name.split(separator: "/", omittingEmptySubsequences: false).count != 2 {
                        throw invalid("\(role).serviceAccounts: '\(name)' is not NAMESPACE/NAME")
                    }
                    subjects.serviceAccounts = Set(names)
                case "groups": subjects.groups = Set(names)
                case "certificates": subjects.certificates = Set(names)
                default:
                    throw invalid("\(role).\(kind) is unknown; known are serviceAccounts, groups and certificates")
                }
            }
            switch role {
            case "agent": agent = subjects
            case "operator": self.operator = subjects
            case "reader": reader = subjects
            default: throw invalid("the role '\(role)' is unknown; known are agent, operator and reader")
            }
        }
    }

    private var all: [(Roles, Subjects)] { [(.agent, agent), (.operator, self.operator), (.reader, reader)] }

    package func caller(with token: TokenIdentity) -> Caller {
        let account = token.serviceAccount
        let roles = all.filter { _, subjects in
            account.map(subjects.serviceAccounts.contains) == true || !subjects.groups.isDisjoint(with: token.groups)
        }
        return Caller(name: token.name, roles: Roles(roles.map(\.0)), node: token.node)
    }

    /// `names` are those of a certificate that was verified, the common name first.
    package func caller(withCertificate names: [String]) -> Caller {
        let roles = all.filter { _, subjects in
            subjects.certificates.contains { pattern in
                pattern.hasSuffix("*")
                    ? names.contains { $0.hasPrefix(pattern.dropLast()) } : names.contains(pattern)
            }
        }
        // As kubelets' certificates name their nodes.
        let node = names.first { $0.hasPrefix(Self.nodePrefix) }?.dropFirst(Self.nodePrefix.count)
        return Caller(
            name: "certificate:\(names.first ?? "")", roles: Roles(roles.map(\.0)), node: node.map(String.init))
    }

    private static let nodePrefix = "system:node:"
}

extension TokenIdentity {
    private static let prefix = "system:serviceaccount:"

    /// NAMESPACE/NAME; nil for another's.
    fileprivate var serviceAccount: String? {
        guard name.hasPrefix(Self.prefix), groups.contains("system:serviceaccounts") else { return nil }
        let parts = name.dropFirst(Self.prefix.count).split(separator: ":", omittingEmptySubsequences: false)
        return parts.count == 2 ? parts.joined(separator: "/") : nil
    }
}
