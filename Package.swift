// swift-tools-version: 6.2
import PackageDescription

// Warnings are errors in CI, and not for who builds with another compiler than ours.
let ci: [SwiftSetting] = Context.environment["HOLDFAST_CI"] == nil ? [] : [.treatAllWarnings(as: .error)]
let testSettings: [SwiftSetting] =
    ci + [
        .enableUpcomingFeature("ExistentialAny"),
        .enableUpcomingFeature("InternalImportsByDefault"),
        .enableUpcomingFeature("MemberImportVisibility"),
    ]
// `make fuzz`: our own targets are instrumented, and holdfast-fuzz is there in the place of FuzzTests.
let fuzzer = Context.environment["HOLDFAST_FUZZER"]
let instrumented: [SwiftSetting] = fuzzer == nil ? [] : [.unsafeFlags(["-sanitize=fuzzer", "-enable-testing"])]
let settings = testSettings + instrumented + [.strictMemorySafety()]

// Listed from the ground up: a target imports only what stands above it in this list.
let package = Package(
    name: "holdfast",
    products: [
        .executable(name: "holdfast-server", targets: ["holdfast-server"]),
        .executable(name: "holdfast-agent", targets: ["holdfast-agent"]),
        .executable(name: "holdfast-cni", targets: ["holdfast-cni"]),
        .executable(name: "holdfast", targets: ["holdfast"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-collections", from: "1.6.0"),
        .package(url: "https://github.com/apple/swift-crypto", from: "4.5.0"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
        .package(url: "https://github.com/apple/swift-nio", from: "2.81.0"),
        .package(url: "https://github.com/apple/swift-nio-extras", from: "1.34.1"),
        .package(url: "https://github.com/apple/swift-nio-ssl", from: "2.30.0"),
        .package(url: "https://github.com/groue/GRDB.swift", from: "7.10.0"),
        .package(url: "https://github.com/hummingbird-project/hummingbird", from: "2.28.1"),
        .package(url: "https://github.com/jpsim/Yams", from: "6.2.2"),
        .package(url: "https://github.com/swift-server/async-http-client", from: "1.37.0"),
        .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.13.0"),
        .package(url: "https://github.com/vapor/jwt-kit", from: "5.7.1"),
    ],
    targets: [
        // Floor 1: the C libraries, and plain values.
        // No pkgConfig: grpc.pc names every absl library and the link line bursts; the module map has `link` lines.
        .systemLibrary(name: "CGRPC", providers: [.apt(["libgrpc-dev"])]),
        .systemLibrary(name: "CProtobufC", providers: [.apt(["libprotobuf-c-dev"])]),
        .systemLibrary(name: "CLinux"),
        .target(name: "CMessages", dependencies: ["CProtobufC"]),
        .target(name: "CInterpose"),
        .target(name: "Addresses", swiftSettings: settings),
        .target(name: "Telemetry", swiftSettings: settings),
        .target(name: "Syscalls", dependencies: ["CLinux"], swiftSettings: settings),
        .target(
            name: "Probes",
            dependencies: [
                "Telemetry",
                .product(name: "Hummingbird", package: "hummingbird"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOHTTPTypes", package: "swift-nio-extras"),
                .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
            ], swiftSettings: settings),
        .target(
            name: "KubernetesAPI",
            dependencies: [
                .product(name: "AsyncHTTPClient", package: "async-http-client"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOFoundationCompat", package: "swift-nio"),
                .product(name: "NIOHTTP1", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "NIOSSL", package: "swift-nio-ssl"),
                .product(name: "Yams", package: "Yams"),
            ], swiftSettings: settings),

        // Floor 2
        .target(
            name: "RPC",
            dependencies: ["Addresses", "CInterpose", "CGRPC", "CMessages", "CProtobufC", "Syscalls", "Telemetry"],
            swiftSettings: settings),
        .target(name: "IPAMModel", dependencies: ["Addresses"], swiftSettings: settings),
        .target(name: "CNI", dependencies: ["Addresses"], swiftSettings: settings),
        .target(name: "DHCP", dependencies: ["Addresses", "CLinux", "Syscalls"], swiftSettings: settings),

        // Floor 3
        .target(
            name: "IPAMAPI",
            dependencies: [
                "RPC", "CMessages", "CProtobufC", "IPAMModel", "Addresses", "Telemetry",
                .product(name: "Yams", package: "Yams"),
            ], swiftSettings: settings),
        .target(
            name: "KubeVirt",
            dependencies: [
                "KubernetesAPI", "IPAMModel", "Addresses",
                .product(name: "Crypto", package: "swift-crypto"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "Yams", package: "Yams"),
            ], swiftSettings: settings),
        // The pools that networks' configurations name, or describe by ranges.
        .target(name: "NetworkPools", dependencies: ["CNI", "IPAMModel", "Addresses"], swiftSettings: settings),
        .target(
            name: "Ledger",
            dependencies: ["IPAMModel", "Addresses", .product(name: "DequeModule", package: "swift-collections")],
            swiftSettings: settings),

        // Floor 4
        .target(
            name: "LedgerStore",
            dependencies: [
                "Ledger", "IPAMModel", "Addresses", .product(name: "GRDB", package: "GRDB.swift"),
                .product(name: "GRDBSQLite", package: "GRDB.swift"),
            ],
            swiftSettings: settings),
        .target(
            name: "NodeAgent",
            dependencies: [
                "IPAMAPI", "KubeVirt", "KubernetesAPI", "NetworkPools", "CNI", "DHCP", "Syscalls", "IPAMModel",
                "Addresses", "Telemetry",
                .product(name: "Logging", package: "swift-log"),
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
            ], swiftSettings: settings),
        .target(
            name: "Lifecycle",
            dependencies: [
                "IPAMAPI", "KubeVirt", "KubernetesAPI", "IPAMModel", "Addresses", "Telemetry",
                .product(name: "Logging", package: "swift-log"),
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
            ], swiftSettings: settings),
        .target(
            name: "Access",
            dependencies: [
                "IPAMAPI", "KubernetesAPI", "RPC", "IPAMModel", "Telemetry",
                .product(name: "Crypto", package: "swift-crypto"),
                .product(name: "JWTKit", package: "jwt-kit"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
                .product(name: "Yams", package: "Yams"),
            ], swiftSettings: settings),

        // Floor 5
        .target(
            name: "IPAMService",
            dependencies: [
                "IPAMAPI", "Ledger", "LedgerStore", "RPC", "CMessages", "IPAMModel", "Addresses", "Telemetry",
                .product(name: "DequeModule", package: "swift-collections"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
            ], swiftSettings: settings),

        .target(
            name: "EtcdStore",
            dependencies: [
                "LedgerStore", "Ledger", "RPC", "CMessages", "IPAMModel", "Addresses", "Syscalls", "Telemetry",
                .product(name: "Logging", package: "swift-log"),
            ], swiftSettings: settings),

        // The programs, and what they share: exit status, variables, logging
        .target(
            name: "Program",
            dependencies: [
                "RPC", "KubernetesAPI", "Addresses", "Telemetry", "CLinux",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "NIOSSL", package: "swift-nio-ssl"),
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
            ], swiftSettings: settings),
        // How stores are named on a command line.
        .target(
            name: "StoreOptions",
            dependencies: [
                "EtcdStore", "Program",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Logging", package: "swift-log"),
            ], swiftSettings: settings),
        .executableTarget(
            name: "holdfast-server",
            dependencies: [
                "IPAMService", "Access", "EtcdStore", "StoreOptions", "Lifecycle", "KubernetesAPI", "IPAMAPI",
                "IPAMModel", "LedgerStore", "RPC", "Addresses", "Probes", "Program",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
                .product(name: "UnixSignals", package: "swift-service-lifecycle"),
            ], swiftSettings: settings),
        .executableTarget(
            name: "holdfast-agent",
            dependencies: [
                "NodeAgent", "KubernetesAPI", "IPAMAPI", "CNI", "Addresses", "Probes", "Program",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
                .product(name: "UnixSignals", package: "swift-service-lifecycle"),
            ], swiftSettings: settings),
        .executableTarget(name: "holdfast-cni", dependencies: ["CNI", "CLinux", "Syscalls"], swiftSettings: settings),
        .executableTarget(
            name: "holdfast",
            dependencies: [
                "IPAMAPI", "Lifecycle", "KubeVirt", "KubernetesAPI", "NetworkPools", "CNI", "IPAMModel", "Addresses",
                "Program", "StoreOptions", "EtcdStore", "LedgerStore", "Ledger",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "Yams", package: "Yams"),
            ], swiftSettings: settings),

        .target(name: "BenchLoad", path: "Benchmarks/BenchLoad", swiftSettings: settings),
        .executableTarget(
            name: "holdfast-bench",
            dependencies: [
                "BenchLoad", "IPAMAPI", "IPAMModel", "RPC", "CMessages",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ], path: "Benchmarks/holdfast-bench", swiftSettings: settings),
        .executableTarget(
            name: "holdfast-bench-etcd",
            dependencies: [
                "BenchLoad", "IPAMAPI", "EtcdStore", "LedgerStore", "Ledger", "IPAMModel", "Addresses", "RPC",
                "CMessages",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ], path: "Benchmarks/holdfast-bench-etcd", swiftSettings: settings),

        // Tests
        .testTarget(name: "TelemetryTests", dependencies: ["Telemetry"], swiftSettings: testSettings),
        .testTarget(name: "AddressesTests", dependencies: ["Addresses"], swiftSettings: testSettings),
        .testTarget(
            name: "RPCTests", dependencies: ["RPC", "Telemetry", "Syscalls", "CMessages", "CProtobufC"],
            swiftSettings: testSettings),
        .testTarget(name: "CNITests", dependencies: ["CNI"], swiftSettings: testSettings),
        .testTarget(name: "DHCPTests", dependencies: ["DHCP", "Addresses"], swiftSettings: testSettings),
        .target(
            name: "TestLog", dependencies: [.product(name: "Logging", package: "swift-log")], path: "Tests/TestLog",
            swiftSettings: testSettings),
        // An API server of the tests' own, fed with recorded traffic.
        .target(
            name: "TestCluster",
            dependencies: [
                "KubernetesAPI",
                .product(name: "NIOCore", package: "swift-nio"), .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "NIOHTTP1", package: "swift-nio"), .product(name: "NIOSSL", package: "swift-nio-ssl"),
            ], path: "Tests/TestCluster", swiftSettings: testSettings),
        .testTarget(
            name: "KubernetesAPITests",
            dependencies: [
                "KubernetesAPI", "TestCluster", .product(name: "Logging", package: "swift-log"),
                .product(name: "NIOCore", package: "swift-nio"),
            ], swiftSettings: testSettings),
        .testTarget(
            name: "LifecycleTests",
            dependencies: [
                "Lifecycle", "TestCluster", "TestLog", "KubernetesAPI", "KubeVirt", "IPAMAPI", "IPAMService",
                "LedgerStore", "Ledger",
                "IPAMModel", "Addresses", "holdfast", "holdfast-server", "holdfast-agent", "holdfast-cni",
                .product(name: "Logging", package: "swift-log"),
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
            ], swiftSettings: testSettings),
        .testTarget(
            name: "KubeVirtTests", dependencies: ["KubeVirt", "IPAMModel", "Addresses"], swiftSettings: testSettings),
        .testTarget(
            name: "IPAMAPITests",
            dependencies: ["IPAMAPI", "IPAMModel", "Addresses", "RPC", "CMessages", "CProtobufC"],
            swiftSettings: testSettings),
        .testTarget(
            name: "LedgerTests", dependencies: ["Ledger", "IPAMModel", "Addresses"], swiftSettings: testSettings),
        .target(
            name: "StoreConformance", dependencies: ["LedgerStore", "Ledger", "IPAMModel", "Addresses"],
            path: "Tests/StoreConformance", swiftSettings: testSettings),
        .testTarget(
            name: "LedgerStoreTests",
            dependencies: [
                "LedgerStore", "StoreConformance", "Ledger", "IPAMModel", "Addresses",
                .product(name: "GRDB", package: "GRDB.swift"),
            ],
            swiftSettings: testSettings),
        .testTarget(
            name: "EtcdStoreTests",
            dependencies: [
                "EtcdStore", "StoreConformance", "LedgerStore", "Ledger", "IPAMAPI", "IPAMModel", "Addresses", "RPC",
                "CMessages", "TestLog", "holdfast-server", "holdfast", .product(name: "Logging", package: "swift-log"),
            ], swiftSettings: testSettings),
        .testTarget(
            name: "HoldfastCLITests",
            dependencies: [
                "holdfast", "Lifecycle", "KubernetesAPI", "KubeVirt", "LedgerStore", "Ledger", "IPAMAPI", "IPAMModel",
                "Addresses", "Program",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Yams", package: "Yams"),
            ],
            exclude: ["Golden", "Import"], swiftSettings: testSettings),
        .testTarget(
            name: "NodeAgentTests",
            dependencies: [
                "NodeAgent", "KubeVirt", "KubernetesAPI", "NetworkPools", "TestCluster", "TestLog", "IPAMAPI",
                "IPAMModel", "Addresses", "CNI", "DHCP", "Syscalls",
                "Ledger", "holdfast-cni", "holdfast-agent", "holdfast-server",
                .product(name: "Hummingbird", package: "hummingbird"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
            ], swiftSettings: testSettings),
        .testTarget(
            name: "AccessTests",
            dependencies: [
                "Access", "IPAMModel", "KubernetesAPI", "RPC", "TestCluster", "TestLog",
                .product(name: "JWTKit", package: "jwt-kit"),
                .product(name: "Logging", package: "swift-log"),
            ], swiftSettings: testSettings),
        .testTarget(
            name: "IPAMServiceTests",
            dependencies: [
                "IPAMService", "IPAMAPI", "Ledger", "LedgerStore", "RPC", "StoreConformance", "IPAMModel", "Addresses",
                "TestLog", "holdfast-server",
            ], swiftSettings: testSettings),
    ],
    swiftLanguageModes: [.v6]
)

let decoders: [Target.Dependency] = [
    "Access", "Addresses", "CMessages", "CNI", "DHCP", "EtcdStore", "IPAMAPI", "IPAMModel", "KubeVirt", "KubernetesAPI",
    "Ledger", "LedgerStore", "NodeAgent", "Program", "RPC", "Syscalls", "Telemetry",
    .product(name: "Logging", package: "swift-log"), .product(name: "Yams", package: "Yams"),
]
if let fuzzer {
    package.targets.append(
        .executableTarget(
            name: "holdfast-fuzz", dependencies: decoders, path: "Fuzz",
            exclude: ["Corpora", "ReplayTests.swift", "README.md"],
            swiftSettings: testSettings, linkerSettings: [.unsafeFlags([fuzzer, "-lstdc++"])]))
} else {
    package.targets.append(
        .testTarget(
            name: "FuzzTests", dependencies: decoders, path: "Fuzz", exclude: ["Corpora", "Main.swift", "README.md"],
            swiftSettings: testSettings))
}
