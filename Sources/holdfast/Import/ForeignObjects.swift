import Addresses
import CNI
import Foundation
import IPAMModel
import KubeVirt
import NetworkPools
import Program
import Yams

/// What `kubectl get … -o yaml` printed of another IPAM's objects, and of the cluster's that tell whose addresses they are.
struct ForeignObjects {
    struct Name: Hashable, CustomStringConvertible {
        var namespace: String
        var name: String
        var description: String { "\(namespace)/\(name)" }

        init(_ namespace: String, _ name: String) { (self.namespace, self.name) = (namespace, name) }

        /// "NAMESPACE/NAME".
        init?(_ text: String) {
            let parts = text.split(separator: "/", omittingEmptySubsequences: false)
            guard parts.count == 2, !parts[0].isEmpty, !parts[1].isEmpty else { return nil }
            self.init(String(parts[0]), String(parts[1]))
        }
    }

    /// A VM, of its VirtualMachine or its instance.
    struct Machine {
        var uid: String
        /// Multus' network to the NIC's name in the pod, for each of its networks that has one.
        var interfaces: [(multus: String, interface: String)]
    }

    struct Pod {
        /// One of Multus' `k8s.v1.cni.cncf.io/network-status`.
        struct Interface: Decodable {
            var name: String
            var interface: String?
            var ips: [String]?
            var mac: String?
        }

        var uid: String
        /// Its VM's name, where it is a launcher.
        var machine: String?
        var hasEnded: Bool
        var addresses: [String]
        var interfaces: [Interface]
    }

    /// A CNI network, of a NetworkAttachmentDefinition or of the node's own configuration.
    struct Network {
        /// The name in its configuration: with the interface's it is the owner's network.
        var name: String
        /// The pool that the agent will make of its ranges.
        var pool: IPAMModel.Pool?
        /// The pool's; where that cannot be told, those of the ranges as they are written.
        var prefixes: [IPPrefix] = []
        /// Why the agent would refuse it.
        var problem: String?
        /// whereabouts' `network_name`.
        var whereaboutsName = ""
    }

    var machines: [Name: Machine] = [:]
    var pods: [Name: Pod] = [:]
    var definitions: [Name: Network] = [:]
    /// Networks that are no definition's, by their names.
    var configurations: [String: Network] = [:]
    var subnets: [String: KubeOVN.Subnet] = [:]
    var ipPools: [String: KubeOVN.IPPool] = [:]
    /// Subnets that a VM asks for by annotation, without naming an IPPool: all of the Subnet is meant.
    var wholeSubnets: [Name: Set<String>] = [:]
    var kubeOVNAddresses: [KubeOVN.Address] = []
    var whereaboutsPools: [Whereabouts.Pool] = []
    var whereaboutsReservations: [Whereabouts.Reservation] = []

    /// What `--network` may name of them.
    var pools: Set<String> {
        Set(subnets.keys).union(kubeOVNAddresses.map(\.subnet)).union(whereaboutsPools.map(\.name))
    }

    var networks: [Network] { Array(definitions.values) + Array(configurations.values) }

    /// Reads all documents of `text`: objects, lists of them, CNI configurations. Throws `Failure` where it is neither YAML
    /// nor JSON, or an object that matters is malformed; others are passed over.
    mutating func read(_ text: String, from source: String) throws {
        // The node's own CNI configuration is JSON in any case.
        if let json = try? JSON(parsing: Array(text.utf8)), json["cniVersion"] != nil {
            let network = try Network(configuration: text, name: "")
            configurations[network.name] = network
            return
        }
        do {
            var documents = try Yams.compose_all(yaml: text)
            // No `for`: it would run on a copy, and the error that ends it would be lost.
            while let document = documents.next() { try insert(document) }
            if let error = documents.error { throw error }
        } catch let failure as Failure {
            throw Failure("\(source): \(failure)", hint: failure.hint)
        } catch YamlError.scanner(_, let problem, let mark, _), YamlError.parser(_, let problem, let mark, _),
            YamlError.composer(_, let problem, let mark, _)
        {
            // Without the text around it, which is all where it is JSON on one line.
            throw Failure(
                "\(source) cannot be read: line \(mark.line), column \(mark.column): \(problem)",
                hint: "give what `kubectl get … -o yaml` prints")
        } catch {
            throw Failure("\(source) cannot be read: \(error)", hint: "give what `kubectl get … -o yaml` prints")
        }
    }

    private mutating func insert(_ node: Node) throws {
        if let items = node["items"]?.array() {
            for item in items { try insert(item) }
            return
        }
        let group = node["apiVersion"]?.text.split(separator: "/").first.map(String.init) ?? ""
        switch (node["kind"]?.text ?? "", group) {
        case ("IP", "kubeovn.io"): kubeOVNAddresses.append(try KubeOVN.Address(node))
        case ("Subnet", "kubeovn.io"):
            let subnet = try KubeOVN.Subnet(node)
            subnets[subnet.pool.name] = subnet
        case ("IPPool", "kubeovn.io"):
            let pool = try KubeOVN.IPPool(node)
            ipPools[pool.name] = pool
        case ("IPPool", "whereabouts.cni.cncf.io"): whereaboutsPools.append(try Whereabouts.Pool(node))
        case ("OverlappingRangeIPReservation", "whereabouts.cni.cncf.io"):
            whereaboutsReservations.append(Whereabouts.Reservation(node))
        case ("Pod", "v1"): pods[node.name] = Pod(node)
        case ("VirtualMachine", "kubevirt.io"), ("VirtualMachineInstance", "kubevirt.io"): insert(machine: node)
        case ("NetworkAttachmentDefinition", "k8s.cni.cncf.io"):
            definitions[node.name] = try Network(
                configuration: node["spec"]?["config"]?.text ?? "", name: node.name.name)
        default: break
        }
    }

    private mutating func insert(machine node: Node) {
        let isInstance = node["kind"]?.text == "VirtualMachineInstance"
        let owner = node.controller(kind: "VirtualMachine")
        let template = isInstance ? node : node["spec"]?["template"]
        for (key, value) in template?["metadata"]?["annotations"]?.mapping ?? [:] {
            guard key.text.hasSuffix("kubernetes.io/logical_switch") else { continue }
            let part = key.text.replacing("kubernetes.io/logical_switch", with: "kubernetes.io/ip_pool")
            if template?["metadata"]?["annotations"]?[part] == nil {
                wholeSubnets[node.name, default: []].insert(value.text)
            }
        }
        let networks = template?["spec"]?["networks"]?.array() ?? []
        let interfaces = networks.compactMap { network -> (multus: String, interface: String)? in
            guard let name = network["name"]?.text else { return nil }
            let multus = network["multus"]
            let isPrimary = network["pod"] != nil || multus?["default"]?.bool == true
            return (multus?["networkName"]?.text ?? "", MachineNetwork(name: name, isPrimary: isPrimary).interface)
        }
        let uid = isInstance ? owner?["uid"]?.text ?? node.uid : node.uid
        // The instance shows the networks that there are now.
        if isInstance || machines[node.name] == nil {
            machines[node.name] = Machine(uid: uid, interfaces: interfaces)
        }
    }
}

extension ForeignObjects.Pod {
    fileprivate init(_ node: Node) {
        uid = node.uid
        machine = node.controller(kind: "VirtualMachineInstance")?["name"]?.text
        let status = node["status"]
        hasEnded = ["Succeeded", "Failed"].contains(status?["phase"]?.text ?? "")
        let listed = status?["podIPs"]?.array().compactMap { $0["ip"]?.text } ?? []
        addresses = listed.isEmpty ? [status?["podIP"]?.text].compactMap(\.self) : listed
        let annotations = node["metadata"]?["annotations"]
        let text =
            annotations?[KubeVirtName.networkStatus]?.text
            ?? annotations?["k8s.v1.cni.cncf.io/networks-status"]?.text ?? "[]"
        interfaces = (try? JSONDecoder().decode([Interface].self, from: Data(text.utf8))) ?? []
    }
}

extension ForeignObjects.Network {
    /// As the agent will see it once its address plugin is holdfast-cni. `name`: where the configuration has none.
    fileprivate init(configuration: String, name: String) throws {
        // Then Multus takes the node's file of that name.
        if configuration.isEmpty {
            self.init(name: name)
            return
        }
        guard let json = try? JSON(parsing: Array(configuration.utf8)), var network = json.object else {
            self.init(name: name, problem: "its configuration is not JSON")
            return
        }
        let own = network["name"]?.string ?? name
        if let plugins = network["plugins"]?.array {
            let main = plugins.first { $0["ipam"] != nil || $0["type"]?.string == NetworkConfiguration.pluginType }
            network = (main ?? plugins.first)?.object ?? [:]
            network["cniVersion"] = json["cniVersion"]
        }
        network["name"] = .string(own)
        let ipam = network["ipam"]?.object
        if var ipam, network["type"]?.string != NetworkConfiguration.pluginType {
            ipam["type"] = .string(NetworkConfiguration.pluginType)
            network["ipam"] = .object(ipam)
        }
        self.init(name: own, whereaboutsName: ipam?["network_name"]?.string ?? "")
        do throws(CNIError) {
            pool = try InlinePool(NetworkConfiguration(network))?.pool
            prefixes = pool?.prefixes.map(\.prefix) ?? []
        } catch {
            problem = error.message
            prefixes = JSON.object(network).ranges
        }
    }
}

extension JSON {
    /// The prefixes of whereabouts' and host-local's ranges, wherever they stand in it.
    fileprivate var ranges: [IPPrefix] {
        if let array { return array.flatMap(\.ranges) }
        return (object?.members ?? []).flatMap { member in
            guard ["range", "subnet"].contains(member.key), let text = member.value.string else {
                return member.value.ranges
            }
            guard let (address, length) = IPPrefix.split(text.split(separator: "-").last.map(String.init) ?? "") else {
                return []
            }
            return [IPPrefix(containing: address, length: length)].compactMap { $0 }
        }
    }
}

extension Node {
    /// A scalar as it is written.
    var text: String { scalar?.string ?? "" }
    var texts: [String] { array().map(\.text).filter { !$0.isEmpty } }
    var uid: String { self["metadata"]?["uid"]?.text ?? "" }

    var name: ForeignObjects.Name {
        ForeignObjects.Name(self["metadata"]?["namespace"]?.text ?? "default", self["metadata"]?["name"]?.text ?? "")
    }

    /// Who manages it, where that is of this kind of KubeVirt's: the owner whom the agent would see.
    func controller(kind: String) -> Node? {
        self["metadata"]?["ownerReferences"]?.array().first {
            $0["controller"]?.bool == true && $0["kind"]?.text == kind
                && $0["apiVersion"]?.text.hasPrefix("kubevirt.io/") == true
        }
    }
}
