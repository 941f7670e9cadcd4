import CNI
import Foundation

extension PluginInstallation {
    /// Keys that mean something beside `"type": "holdfast-cni"`, as `ipam` or as main plugin.
    private static let keys: Set<String> = [
        "type", "pool", "socket", "dhcp", "range", "range_start", "range_end", "exclude", "ipRanges", "gateway",
        "subnet", "ranges", "rangeStart", "rangeEnd", "routes", "dns", "network_name", "addresses",
    ]
    /// A plugin's own in a network (CNI 1.1, section 1), Multus', and the main plugin's.
    private static let mainKeys: Set<String> = [
        "cniVersion", "cniVersions", "name", "ipam", "args", "capabilities", "runtimeConfig", "prevResult", "deviceID",
        "pciBusID", "disableCheck", "disableGC", "loadOnlyInlinedPlugins", "delegate",
    ]

    /// What of a network that can be installed is perhaps not meant so, a sentence each.
    package func remarks(on configuration: String) throws(InstallationError) -> [String] {
        var remarks: [String] = []
        for plugin in Self.plugins(in: try InstallationError.content(of: configuration)) {
            let isMain = plugin["type"]?.string == NetworkConfiguration.pluginType
            let own = isMain ? plugin : plugin["ipam"]?.object ?? [:]
            let known = isMain ? Self.keys.union(Self.mainKeys) : Self.keys
            for key in own.members.map(\.key) where !known.contains(key) && !key.hasPrefix("cni.dev/") {
                remarks.append("\(configuration): \"\(key)\" has no effect: it is no key of holdfast-cni")
            }
            let capabilities = plugin["delegate"]?["capabilities"]?.object?.members.map(\.key) ?? []
            for key in capabilities where key != "mac" && plugin["capabilities"]?[key] != true {
                remarks.append(
                    "\(configuration): no runtime sees the capability \"\(key)\" in \"delegate\": declare it beside it")
            }
        }
        let name = configuration.split(separator: "/").last.map(String.init)
        let others = (try? FileManager.default.contentsOfDirectory(atPath: configurations)) ?? []
        for other in others.sorted() where other != name && Self.isNetwork(other) {
            let path = "\(configurations)/\(other)"
            if let content = try? InstallationError.content(of: path), !Self.plugins(in: content).isEmpty {
                remarks.append(
                    "\(path) names holdfast-cni, too, and stays: remove it if it is an older name of this network")
            }
        }
        return remarks
    }

    /// Those that are holdfast-cni, or have it as `ipam`.
    private static func plugins(in content: [UInt8]) -> [JSONObject] {
        guard let json = try? JSON(parsing: content) else { return [] }
        return (json["plugins"]?.array ?? [json]).compactMap(\.object).filter(\.namesThisPlugin)
    }
}
