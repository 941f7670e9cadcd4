import Addresses
import Foundation
import KubeVirt
import Testing

/// docs/annotations.md against the code.
struct AnnotationsDocumentTests {
    /// "| `ANNOTATION` | `EXAMPLE` | …", each row of the table.
    private static let rows: [(name: String, example: String)] = {
        let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent()
        let text = (try? String(contentsOf: root.appending(path: "docs/annotations.md"), encoding: .utf8)) ?? ""
        return text.split(separator: "\n").compactMap { line in
            let cells = line.split(separator: "|").map { $0.trimmingCharacters(in: .whitespaces) }
            guard cells.count == 4, cells[0].hasPrefix("`"), cells[1].hasPrefix("`"), cells[0].contains("/") else {
                return nil
            }
            return (cells[0].trimmingCharacters(in: ["`"]), cells[1].trimmingCharacters(in: ["`"]))
        }
    }()

    @Test func `every example in the table asks for something, for the NIC that the row names`() throws {
        #expect(Self.rows.count >= 18)
        for (name, example) in Self.rows {
            let annotations = [
                name: example,
                "k8s.v1.cni.cncf.io/networks":
                    #"[{"name":"storage","namespace":"prod","interface":"\#(Machine.blue)"}]"#,
            ]
            let isOfBlue = ["storage", "blue"].contains { name.contains($0) || example.contains($0) }
            for (interface, network) in [("eth0", "vm-net"), (Machine.blue, "storage-net")] {
                let pod = ObjectMeta(namespace: "default", name: "p", uid: "u", annotations: annotations)
                let nic = PodInterface(
                    name: interface, network: network, pod: pod, machineNetworks: Machine.networks)
                let wishes = try Wish.wishes(in: annotations, for: nic)
                #expect(wishes.isEmpty == (isOfBlue != (interface == Machine.blue)), "\(name) for \(interface)")
                #expect(wishes.allSatisfy { $0.source == .annotation(name) && $0.text == example })
            }
        }
    }
}
