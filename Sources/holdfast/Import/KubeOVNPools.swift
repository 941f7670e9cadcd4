import Addresses
import IPAMModel

/// The pools that Kube-OVN's Subnets and IPPools become: one of each IPPool, in its Subnet's network, and the Subnet's has
/// what no IPPool has.
struct KubeOVNPools {
    /// By name.
    private(set) var pools: [String: Pool]
    /// What becomes of IPPools beside their pools and addresses.
    private(set) var findings: [ImportFinding] = []
    private var parts: [KubeOVN.IPPool] = []

    init(_ subnets: [String: KubeOVN.Subnet] = [:], _ ipPools: some Collection<KubeOVN.IPPool> = []) {
        pools = subnets.mapValues(\.pool)
        for part in ipPools.sorted(by: { $0.name < $1.name }) {
            let source = "IPPool \(part.name)"
            func leaveOut(_ why: String) { findings.append(.leftOut(source: source, addresses: [], why)) }
            guard let subnet = subnets[part.subnet]?.pool else {
                leaveOut("its Subnet \(part.subnet) is not given")
                continue
            }
            if part.ranges.isEmpty {
                leaveOut("it has no addresses")
            } else if let why = problem(of: part, in: subnet) {
                findings.append(.unclear(source: source, addresses: [], why))
            } else {
                add(part, of: subnet)
                if part.isAddressSet { leaveOut("its address set: OVN's rules end with the switch") }
            }
        }
    }

    /// Whose an address of a Subnet's is: an IPPool's name, or the Subnet's.
    func pool(of address: IPAddress, inSubnet subnet: String) -> String {
        parts.first { $0.subnet == subnet && $0.ranges.contains { $0.contains(address) } }?.name ?? subnet
    }

    /// The Subnet that a pool is a part of; itself where it is none's.
    func subnet(ofPool pool: String) -> String { parts.first { $0.name == pool }?.subnet ?? pool }

    private func problem(of part: KubeOVN.IPPool, in subnet: Pool) -> String? {
        if pools[part.name] != nil { return "a Subnet has its name too, and a pool's name is one pool's" }
        for range in part.ranges {
            if !subnet.prefixes.contains(where: { $0.prefix.contains(range.lower) && $0.prefix.contains(range.upper) })
            {
                return "Subnet \(subnet.name) does not have \(range)"
            }
            let others = parts.filter { $0.subnet == subnet.name }
            if let other = others.first(where: { $0.ranges.contains { $0.overlaps(range) } }) {
                return "\(range) is IPPool \(other.name)'s too"
            }
        }
        return nil
    }

    private mutating func add(_ part: KubeOVN.IPPool, of subnet: Pool) {
        parts.append(part)
        var pool = Pool(name: part.name, prefixes: [], namespaces: part.namespaces)
        for (index, whole) in subnet.prefixes.enumerated() {
            let own = part.ranges.filter { whole.prefix.contains($0.lower) }
            if own.isEmpty { continue }
            let range = whole.prefix.range
            var entry = whole
            entry.excluded = range.subtracting(own.flatMap { $0.subtracting(whole.excluded) })
            pool.prefixes.append(entry)
            let others = pools[subnet.name]?.prefixes[index].excluded ?? []
            pools[subnet.name]?.prefixes[index].excluded = range.subtracting(range.subtracting(others + own))
        }
        pools[part.name] = pool
    }
}
