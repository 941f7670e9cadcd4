import Addresses
import Foundation
import Program

/// host-local's state: DIR/NETWORK/ADDRESS, with the container's ID and the interface's name on two lines
/// (containernetworking/plugins plugins/ipam/host-local/backend/disk/backend.go).
struct HostLocal {
    struct Entry {
        var network: String
        var address: IPAddress
        /// Empty where an older host-local wrote it.
        var interface: String
    }

    var entries: [Entry] = []

    /// `path` is the folder with one folder for each network, such as /var/lib/cni/networks. Throws `Failure`.
    init(path: String) throws {
        let manager = FileManager.default
        do {
            for network in try manager.contentsOfDirectory(atPath: path).sorted() {
                let folder = URL(filePath: "\(path)/\(network)")
                guard try folder.resourceValues(forKeys: [.isDirectoryKey]).isDirectory == true else { continue }
                for name in try manager.contentsOfDirectory(atPath: folder.path).sorted() {
                    // `lock` and `last_reserved_ip.0` are there too.
                    guard let address = IPAddress(name) else { continue }
                    let text = try String(contentsOf: folder.appending(path: name), encoding: .utf8)
                    let lines = text.split(whereSeparator: \.isNewline).map(String.init)
                    entries.append(Entry(network: network, address: address, interface: lines.dropFirst().first ?? ""))
                }
            }
        } catch {
            throw Failure(
                reading: path, error,
                hint: "name the folder that has one folder for each network, as /var/lib/cni/networks")
        }
        entries.sort { ($0.network, $0.address) < ($1.network, $1.address) }
    }
}
