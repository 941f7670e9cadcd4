/// DHCP options as Kube-OVN's users write them in annotations: "lease_time=3600,router=10.0.0.1,dns_server={10.0.0.2,10.0.0.3}"
/// (ovn-nb(5), DHCP_Options; Kube-OVN docs/kubevirt/dhcp.en.md).
struct OptionText: Hashable, Sendable {
    /// Each key's values; without braces there is one.
    private(set) var options: [String: [String]] = [:]

    /// Nil where a part has no `=`, or braces do not match.
    init?(_ text: String) {
        for part in Self.split(text) {
            guard let equals = part.firstIndex(of: "=") else { return nil }
            let key = Self.trimmed(part[..<equals])
            var value = Self.trimmed(part[part.index(after: equals)...])[...]
            guard !key.isEmpty, value.hasPrefix("{") == value.hasSuffix("}") else { return nil }
            guard value.hasPrefix("{") else {
                options[key] = [String(value)]
                continue
            }
            value = value.dropFirst().dropLast()
            // Kube-OVN's own form has semicolons here.
            options[key] = value.split { $0 == "," || $0 == ";" }.map(Self.trimmed)
        }
    }

    /// At the commas outside of braces and quotes.
    private static func split(_ text: String) -> [Substring] {
        var parts: [Substring] = []
        var (start, depth, isQuoted) = (text.startIndex, 0, false)
        for index in text.indices {
            switch text[index] {
            case "{": depth += 1
            case "}": depth -= 1
            case "\"": isQuoted.toggle()
            case "," where depth == 0 && !isQuoted:
                parts.append(text[start..<index])
                start = text.index(after: index)
            default: break
            }
        }
        parts.append(text[start...])
        return parts.filter { !trimmed($0).isEmpty }
    }

    /// Without spaces around it, and without the quotes that OVN wants around names.
    private static func trimmed(_ text: some StringProtocol) -> String {
        var rest = text[...]
        while let first = rest.first, " \"".contains(first) { rest.removeFirst() }
        while let last = rest.last, " \"".contains(last) { rest.removeLast() }
        return String(rest)
    }
}
