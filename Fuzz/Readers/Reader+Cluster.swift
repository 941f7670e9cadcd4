import Foundation
import Yams

@testable import Access
@testable import CNI
@testable import IPAMAPI
@testable import KubeVirt
@testable import KubernetesAPI
@testable import NodeAgent

extension Reader {
    /// What Kubernetes' objects say, the annotations on them that anybody may write, and the files of people.
    static let cluster = [
        Reader(name: "manifests") { bytes in
            var objects = ClusterObjects()
            if let object = try? ClusterObject(manifest: Data(bytes)) { objects.insert(object) }
        },
        Reader(
            name: "watch-lines",
            read: byFirstByte([
                { _ = try? JSONDecoder().decode(WatchLine<Pod>.self, from: Data($0)) },
                { _ = try? JSONDecoder().decode(WatchLine<VirtualMachineInstance>.self, from: Data($0)) },
                { _ = try? JSONDecoder().decode(ListPage<VirtualMachineInstanceMigration>.self, from: Data($0)) },
            ])),
        // Lines NAME=VALUE.
        Reader(name: "annotations") { bytes in
            var annotations: [String: String] = [:]
            for line in String(decoding: bytes, as: UTF8.self).split(separator: "\n") {
                let parts = line.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
                annotations[String(parts[0])] = parts.count == 2 ? String(parts[1]) : ""
            }
            let pod = ObjectMeta(namespace: "default", name: "web", uid: "u", annotations: annotations)
            let text = #"{"name":"vm-net","type":"holdfast-cni","delegate":{"type":"bridge"}}"#
            for name in ["eth0", "net1", "pod37a8eec1ce1"] {
                let nic = PodInterface(name: name, network: "vm-net", pod: pod, machineNetworks: [])
                if let wishes = try? Wish.wishes(in: annotations, for: nic) { _ = try? AddressRequest(wishes) }
                if let network = try? NetworkConfiguration(parsing: Array(text.utf8)) {
                    _ = try? GuestOptions(
                        isDefault: true, network: network, annotations: annotations, nic: nic, hostName: "web")
                }
            }
        },
        Reader(name: "pool-manifests") { bytes in
            _ = try? PoolManifest.parse(Data(bytes), source: "pools.yaml")
        },
        Reader(name: "policies") { bytes in _ = try? Policy(yaml: Data(bytes), source: "policy.yaml") },
        Reader(name: "kubeconfig") { bytes in
            let path = "/dev/shm/holdfast-fuzz-\(getpid()).kubeconfig"
            try Data(bytes).write(to: URL(filePath: path))
            defer { unlink(path) }
            _ = try? KubernetesConfiguration.kubeconfig(path)
        },
    ]
}
