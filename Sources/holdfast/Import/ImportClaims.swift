import Addresses
import IPAMModel
import KubeVirt

/// That somebody has an address, by one of another IPAM's records.
struct ImportClaim {
    var owner: Owner
    var addresses: [IPAddress]
    var mac: MACAddress?
    var pool: String
    /// The record.
    var source: String
    /// What is to be done beside.
    var note: String?
}

/// What came of one record.
enum ImportFinding {
    case claim(ImportClaim)
    /// Nobody needs it any more; why.
    case leftOut(source: String, addresses: [IPAddress], String)
    /// Whose it is cannot be told; why, and what would help.
    case unclear(source: String, addresses: [IPAddress], String)
}

/// Tells whose each address is, by what the cluster's objects say of pods, VMs and networks.
struct ImportReader {
    /// Of a pool: the CNI network, with "/INTERFACE" or without, whatever the objects say.
    typealias Overrides = [String: String]

    private struct Obstacle: Error {
        var why: String
        var isGone = false
    }

    let objects: ForeignObjects
    let hostLocal: [HostLocal]
    let networks: Overrides
    private let kubeOVN: KubeOVNPools

    init(objects: ForeignObjects, hostLocal: [HostLocal], networks: Overrides) {
        self.objects = objects
        self.hostLocal = hostLocal
        self.networks = networks
        kubeOVN = KubeOVNPools(objects.subnets, objects.ipPools.values)
    }

    var findings: [ImportFinding] {
        objects.kubeOVNAddresses.flatMap(findings) + kubeOVN.findings + objects.whereaboutsPools.flatMap(findings)
            + leftovers + hostLocal.flatMap { $0.entries.map(finding) }
    }

    /// Pools that the objects describe, by their names.
    var pools: [String: Pool] {
        var pools = kubeOVN.pools
        for pool in objects.networks.compactMap(\.pool) { pools[pool.name] = pool }
        for pool in objects.whereaboutsPools where definitions(of: pool).isEmpty {
            pools[pool.name] = Pool(name: pool.name, prefixes: [PoolPrefix(prefix: pool.prefix)])
        }
        return pools
    }

    /// Those that go together: a Subnet's pool excludes what its IPPools have, so all of them are made, or none.
    func siblings(ofPool name: String) -> [String] {
        let subnet = kubeOVN.subnet(ofPool: name)
        return kubeOVN.pools.keys.filter { kubeOVN.subnet(ofPool: $0) == subnet }
    }

    private func finding(
        _ source: String, _ addresses: [IPAddress], _ read: () throws(Obstacle) -> ImportClaim
    ) -> ImportFinding {
        do {
            return .claim(try read())
        } catch {
            return error.isGone
                ? .leftOut(source: source, addresses: addresses, error.why)
                : .unclear(source: source, addresses: addresses, error.why)
        }
    }

    // MARK: - Kube-OVN

    /// One for each pool that its addresses are of.
    private func findings(_ record: KubeOVN.Address) -> [ImportFinding] {
        let finding = finding(record)
        guard case .claim(let whole) = finding else { return [finding] }
        let parts = Dictionary(grouping: whole.addresses) { kubeOVN.pool(of: $0, inSubnet: record.subnet) }
        return parts.map { pool, addresses in
            var claim = whole
            (claim.pool, claim.addresses) = (pool, addresses)
            return .claim(claim)
        }
    }

    private func finding(_ record: KubeOVN.Address) -> ImportFinding {
        let source = "IP \(record.name)"
        return finding(source, record.addresses) { () throws(Obstacle) in
            guard !record.addresses.isEmpty else { throw Obstacle(why: "it has no address", isGone: true) }
            guard !record.namespace.isEmpty else { throw Obstacle(why: "it is no pod's", isGone: true) }
            let name = ForeignObjects.Name(record.namespace, record.owner)
            var owner: Owner
            if record.isMachine {
                guard let machine = try self.machine(name) else {
                    throw Obstacle(why: "its VM \(name) is gone", isGone: true)
                }
                owner = Owner(
                    kind: .virtualMachine, namespace: name.namespace, name: name.name, uid: machine.uid, network: "")
                let part = record.addresses.map { kubeOVN.pool(of: $0, inSubnet: record.subnet) }.first {
                    $0 != record.subnet
                }
                if let part, objects.wholeSubnets[name]?.contains(record.subnet) == true {
                    throw Obstacle(
                        why:
                            "it has an address of IPPool \(part), and its annotation logical_switch would move it to pool "
                            + "\(record.subnet): write ip_pool \(part) beside that, in the VM's template")
                }
            } else {
                owner = try self.owner(ofPod: name).owner
            }
            owner.network = try network(
                of: record, owner: record.isMachine ? owner.name : nil, pod: record.isMachine ? nil : name)
            return ImportClaim(
                owner: owner, addresses: record.addresses, mac: record.mac, pool: record.subnet, source: source)
        }
    }

    private func network(
        of record: KubeOVN.Address, owner machine: String?, pod: ForeignObjects.Name?
    ) throws(Obstacle) -> String {
        let provider = record.provider(of: objects.subnets[record.subnet])
        if let given = networks[record.subnet] {
            if given.contains("/") { return given }
            if provider == "ovn" || provider.isEmpty { return "\(given)/\(MachineNetwork.primaryInterface)" }
        }
        guard provider != "ovn", !provider.isEmpty else {
            throw Obstacle(
                why: "it is of Kube-OVN's own network: say which network will be the pods' instead, with "
                    + "--network \(record.subnet)=NAME")
        }
        guard let (name, second) = KubeOVN.definition(of: provider), let definition = objects.definitions[name] else {
            throw Obstacle(why: "its network is that of provider \(provider), and no such network definition is given")
        }
        let network = networks[record.subnet] ?? definition.name
        if let second { return "\(network)/\(second)" }
        let vm = machine.flatMap { objects.machines[ForeignObjects.Name(record.namespace, $0)] }
        let meant = vm?.interfaces.filter {
            $0.multus == "\(name)" || $0.multus == name.name && name.namespace == record.namespace
        }
        if let meant, meant.count == 1 { return "\(network)/\(meant[0].interface)" }
        let carriers = objects.pods.filter { key, value in
            key == pod || machine != nil && value.machine == machine && key.namespace == record.namespace
        }
        for (_, carrier) in carriers {
            if let found = carrier.interface(holding: record.addresses) { return "\(network)/\(found)" }
        }
        throw Obstacle(
            why: "the name of its NIC in the pod is not known: give the VirtualMachine, or --network "
                + "\(record.subnet)=\(network)/INTERFACE")
    }

    // MARK: - whereabouts

    private func findings(_ pool: Whereabouts.Pool) -> [ImportFinding] {
        let definitions = definitions(of: pool)
        let definition = Set(definitions.map(\.name)).count == 1 ? definitions.first : nil
        return pool.allocations.map { record in
            let source = "IPPool \(pool.name)"
            return finding(source, [record.address]) { () throws(Obstacle) in
                guard let name = record.pod else {
                    throw Obstacle(why: "whose it is does not stand in it: \"\(record.podRef)\" is no pod")
                }
                var (owner, pod) = try self.owner(ofPod: name)
                let shown = pod.interfaces.first {
                    $0.interface == record.interface && !record.interface.isEmpty || $0.has(record.address)
                }
                let interface = record.interface.isEmpty ? shown?.interface ?? "" : record.interface
                let attached = self.definition(of: shown)
                // What the pod shows is its network, whoever else has the range.
                if networks[pool.name] == nil { try refuse(attached.map { [$0] } ?? definitions) }
                let network = networks[pool.name] ?? attached?.name ?? definition?.name
                guard let network else {
                    throw Obstacle(
                        why: "its network is not known: give the network definition with that range, or --network "
                            + "\(pool.name)=NAME")
                }
                let (present, note) = presentName(of: interface, owner, pod)
                guard network.contains("/") || !interface.isEmpty else {
                    throw Obstacle(why: "its NIC is not known: --network \(pool.name)=\(network)/INTERFACE tells")
                }
                owner.network = network.contains("/") ? network : "\(network)/\(present)"
                let own = attached.flatMap { attached in definitions.first { $0.name == attached.name } }
                let described = own ?? definitions.first { $0.pool != nil }
                return ImportClaim(
                    owner: owner, addresses: [record.address], mac: shown?.mac.flatMap { MACAddress($0) },
                    pool: described?.pool?.name ?? pool.name, source: source, note: note)
            }
        }
    }

    /// The NIC's name in the owner's next pod, and what is to be done where that is another one. Before KubeVirt 1.0 a VM's
    /// were net1, net2, … in the order of its networks.
    private func presentName(
        of interface: String, _ owner: Owner, _ pod: ForeignObjects.Pod
    ) -> (name: String, note: String?) {
        guard owner.kind == .virtualMachine, let ordinal = MachineNetwork.ordinal(ofInterface: interface),
            !pod.interfaces.contains(where: { MachineNetwork.isSecondaryInterface($0.interface ?? "") })
        else { return (interface, nil) }
        let machine = objects.machines[ForeignObjects.Name(owner.namespace, owner.name)]
        let further = machine?.interfaces.map(\.interface).filter(MachineNetwork.isSecondaryInterface) ?? []
        guard further.indices.contains(ordinal - 1) else { return (interface, nil) }
        return (
            further[ordinal - 1],
            "its pod is from before KubeVirt 1.0 (\(interface)): restart the VM before it migrates"
        )
    }

    /// The networks whose ranges have this one.
    private func definitions(of pool: Whereabouts.Pool) -> [ForeignObjects.Network] {
        objects.networks.filter { network in
            network.prefixes.contains(pool.prefix)
                && (network.whereaboutsName.isEmpty || pool.name.hasPrefix(network.whereaboutsName + "-"))
        }
    }

    private func definition(of interface: ForeignObjects.Pod.Interface?) -> ForeignObjects.Network? {
        guard let interface, let name = ForeignObjects.Name(interface.name) else { return nil }
        return objects.definitions[name]
    }

    /// Throws where the agent would refuse one of them: which pool is its own cannot be told, and a pool without what it says
    /// of gateway and exclusions would give them away.
    private func refuse(_ networks: [ForeignObjects.Network]) throws(Obstacle) {
        for network in networks {
            if let problem = network.problem {
                throw Obstacle(
                    why: "holdfast-cni would refuse its network \(network.name): \(problem); correct it, or where "
                        + "nobody uses it leave it out of what is given")
            }
        }
    }

    /// What whereabouts holds in all ranges, and in none of those that are given.
    private var leftovers: [ImportFinding] {
        let known = objects.whereaboutsPools.flatMap { $0.allocations.map(\.address) }
        return objects.whereaboutsReservations.filter { reservation in !known.contains(where: reservation.names) }.map {
            .leftOut(
                source: "OverlappingRangeIPReservation \($0.name)", addresses: [],
                "no IPPool that is given has it (it names \($0.podRef))")
        }
    }

    // MARK: - host-local

    private func finding(_ record: HostLocal.Entry) -> ImportFinding {
        let source = "host-local \(record.network)"
        return finding(source, [record.address]) { () throws(Obstacle) in
            let holders = objects.pods.filter { $0.value.has(record.address) && !$0.value.hasEnded }
            guard let (name, pod) = holders.first, holders.count == 1 else {
                if objects.pods.isEmpty {
                    throw Obstacle(why: "whose it is only pods tell: give `kubectl get pods -A -o yaml`")
                }
                throw holders.isEmpty
                    ? Obstacle(why: "no pod has it", isGone: true)
                    : Obstacle(why: "\(holders.keys.map(\.description).sorted().joined(separator: " and ")) have it")
            }
            var owner = try self.owner(ofPod: name).owner
            let shown = pod.interfaces.first { $0.has(record.address) }
            let named = record.interface.isEmpty ? shown?.interface ?? "" : record.interface
            let (interface, note) = presentName(
                of: named.isEmpty ? MachineNetwork.primaryInterface : named, owner, pod)
            let network = networks[record.network] ?? record.network
            owner.network = network.contains("/") ? network : "\(network)/\(interface)"
            let described = objects.networks.filter { $0.name == record.network }
            try refuse(described)
            guard let pool = described.compactMap(\.pool).first,
                pool.prefixes.contains(where: { $0.prefix.contains(record.address) })
            else {
                throw Obstacle(
                    why: "its network's configuration, which tells the pool, is not given: add /etc/cni/net.d's file "
                        + "with the name \(record.network), or its network definition")
            }
            return ImportClaim(
                owner: owner, addresses: [record.address], mac: shown?.mac.flatMap { MACAddress($0) }, pool: pool.name,
                source: source, note: note)
        }
    }

    // MARK: - Owners

    private func owner(ofPod name: ForeignObjects.Name) throws(Obstacle) -> (owner: Owner, pod: ForeignObjects.Pod) {
        guard let pod = objects.pods[name] else {
            if objects.pods.isEmpty {
                throw Obstacle(why: "whether pod \(name) is a VM's only pods tell: give `kubectl get pods -A -o yaml`")
            }
            throw Obstacle(why: "its pod \(name) is gone", isGone: true)
        }
        if pod.hasEnded { throw Obstacle(why: "its pod \(name) has ended", isGone: true) }
        guard let machine = pod.machine else {
            return (Owner(kind: .pod, namespace: name.namespace, name: name.name, uid: pod.uid, network: ""), pod)
        }
        let machineName = ForeignObjects.Name(name.namespace, machine)
        guard let uid = try self.machine(machineName)?.uid else {
            throw Obstacle(why: "VM \(machineName), whose pod \(name) runs, is not among those given: give all of them")
        }
        return (
            Owner(kind: .virtualMachine, namespace: name.namespace, name: machine, uid: uid, network: ""), pod
        )
    }

    /// Nil where there is none of that name. A reservation without its VM's UID would outlive that VM.
    private func machine(_ name: ForeignObjects.Name) throws(Obstacle) -> ForeignObjects.Machine? {
        if objects.machines.isEmpty {
            throw Obstacle(why: "whether VM \(name) is there only VMs tell: give `kubectl get vm,vmi -A -o yaml`")
        }
        return objects.machines[name]
    }
}

extension ForeignObjects.Pod {
    func has(_ address: IPAddress) -> Bool {
        addresses.contains { IPAddress($0) == address } || interfaces.contains { $0.has(address) }
    }

    func interface(holding addresses: [IPAddress]) -> String? {
        interfaces.first { interface in addresses.contains(where: interface.has) }?.interface
    }
}

extension ForeignObjects.Pod.Interface {
    func has(_ address: IPAddress) -> Bool { ips?.contains { IPAddress($0) == address } ?? false }
}
