// swift-tools-version: 6.2
import PackageDescription

// One table of settings. C is optimised in debug builds too; contraction is off so that a product
// and a sum round twice unless the code says fma; OpenMP comes from libomp5 (Debian's libomp-dev;
// the toolchain ships no omp.h and no runtime).
let c: [CSetting] = [
  .unsafeFlags(["-std=gnu17", "-O3", "-ffp-contract=off", "-fopenmp", "-Wall", "-Wextra"])
]
let swift: [SwiftSetting] = [
  .enableUpcomingFeature("ExistentialAny"), .enableUpcomingFeature("InternalImportsByDefault"),
  .enableUpcomingFeature("MemberImportVisibility"),
]
// Sources also mark every use of a pointer (`unsafe`). tools/check-imports says where they may.
let marked: [SwiftSetting] =
  swift + [.strictMemorySafety(), .treatWarning("StrictMemorySafety", as: .error)]

// Above the kernels and the file formats Swift code is glue: smaller is as fast.
let small: [SwiftSetting] = [.unsafeFlags(["-Osize"], .when(configuration: .release))]

// Modules with loops over elements, which tests run for minutes.
let quick: [SwiftSetting] = [.unsafeFlags(["-O"], .when(configuration: .debug))]

let subprocess = Target.Dependency.product(name: "Subprocess", package: "swift-subprocess")

/// A module: `Sources/<name>`, and what it may import (tools/check-imports reads this list).
func module(
  _ name: String, _ dependencies: [Target.Dependency], _ more: [SwiftSetting] = []
) -> Target {
  .target(
    name: name, dependencies: dependencies, exclude: ["README.md"], swiftSettings: marked + more)
}
func tests(_ name: String, _ dependencies: [Target.Dependency], exclude: [String] = []) -> Target {
  .testTarget(
    name: name, dependencies: dependencies + ["TestSupport"], exclude: exclude, swiftSettings: swift
  )
}

let package = Package(
  name: "pisces",
  products: [
    .executable(name: "pisces", targets: ["pisces"]),
    // tools/library makes libpisces.so of it.
    .library(name: "PiscesInterface", type: .dynamic, targets: ["Interface"]),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
    .package(url: "https://github.com/swiftlang/swift-subprocess", from: "1.0.2", traits: []),
  ],
  targets: [
    .target(
      name: "CKernels", path: "CSupport/Kernels", exclude: ["README.md"],
      publicHeadersPath: "include", cSettings: c,
      linkerSettings: [.linkedLibrary("omp5"), .linkedLibrary("m")]),
    .target(
      name: "CExact", path: "CSupport/Exact", publicHeadersPath: "include",
      cxxSettings: [.unsafeFlags(["-std=gnu++14", "-O2", "-Wno-deprecated-declarations"])]),
    .target(
      name: "CEmbedded", path: "CSupport/Embedded", exclude: ["models", "openclip"],
      publicHeadersPath: "include", cSettings: [.unsafeFlags(["-std=gnu23"])]),
    .target(
      name: "CMpi", path: "CSupport/Mpi", exclude: ["README.md"], publicHeadersPath: "include",
      cSettings: [.unsafeFlags(["-std=gnu17", "-O2", "-Wall", "-Wextra"])]),
    .systemLibrary(name: "CInterface", path: "CSupport/Interface"),
    .systemLibrary(
      name: "CPNG", path: "CSupport/PNG", pkgConfig: "libpng", providers: [.apt(["libpng-dev"])]),
    .systemLibrary(
      name: "CUtf8proc", path: "CSupport/Utf8proc", providers: [.apt(["libutf8proc-dev"])]),
    .systemLibrary(name: "CYAML", path: "CSupport/YAML", providers: [.apt(["libyaml-dev"])]),
    .systemLibrary(
      name: "CZlib", path: "CSupport/Zlib", pkgConfig: "zlib", providers: [.apt(["zlib1g-dev"])]),

    module("TensorRuntime", ["CKernels"], quick),
    module("Cluster", ["TensorRuntime", "CMpi"]),
    module("Layers", ["TensorRuntime"]),
    module("Models", ["TensorRuntime", "Layers", "CUtf8proc"], small),
    module("Diffusion", ["TensorRuntime", "Layers", "Models"], small),
    module("Transport", ["TensorRuntime", "Layers", "CExact"]),
    module("Rewards", ["TensorRuntime", "Layers", "Models", "Transport"], small),
    module("World", ["TensorRuntime"], quick),
    module("Files", ["TensorRuntime", "CEmbedded", "CPNG", "CZlib", "CYAML", subprocess]),
    module(
      "Pipelines",
      ["TensorRuntime", "Layers", "Models", "Diffusion", "Transport", "Rewards", "Files"], small),
    module(
      "Training",
      [
        "TensorRuntime", "Cluster", "Layers", "Models", "Diffusion", "Transport", "Rewards",
        "World", "Files", "Pipelines",
      ], small),
    module(
      "PostTraining",
      [
        "TensorRuntime", "Cluster", "Layers", "Models", "Diffusion", "Transport", "Rewards",
        "Files",
        "Pipelines", "Training",
      ], small),
    module(
      "Evaluation",
      [
        "TensorRuntime", "Layers", "Models", "Diffusion", "Transport", "Rewards", "World", "Files",
        "Pipelines", "Training", "PostTraining",
      ], small),
    module(
      "Benchmarking",
      [
        "TensorRuntime", "Cluster", "Layers", "Models", "Diffusion", "Transport", "Rewards",
        "World", "Files", "Pipelines", "Training", "PostTraining",
      ], small),

    module(
      "Interface",
      [
        "TensorRuntime", "Layers", "Models", "Transport", "Rewards", "Files", "Pipelines",
        "CInterface",
      ]),

    .executableTarget(
      name: "pisces",
      dependencies: [
        "TensorRuntime", "Cluster", "Layers", "Models", "Diffusion", "Transport", "Rewards",
        "World", "Files", "Pipelines", "Training", "PostTraining", "Evaluation", "Benchmarking",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ],
      swiftSettings: marked + small),

    .target(
      name: "TestSupport",
      dependencies: [
        "TensorRuntime", "Layers", "Models", "Files", subprocess,
      ], path: "Tests/TestSupport", swiftSettings: swift + quick),
    // A folder of tests for each module (Tests/HouseTests checks that), and two for the whole.
    tests("TensorRuntimeTests", ["CKernels", "TensorRuntime"]),
    tests("ClusterTests", ["Cluster", "TensorRuntime"]),
    tests("LayersTests", ["Layers", "TensorRuntime"]),
    tests("ModelsTests", ["Models", "Layers", "TensorRuntime"]),
    tests("DiffusionTests", ["Diffusion", "Models", "TensorRuntime"]),
    tests("TransportTests", ["Transport", "Layers", "TensorRuntime"]),
    tests("RewardsTests", ["Rewards", "Transport", "Models", "Layers", "TensorRuntime"]),
    tests("WorldTests", ["World", "TensorRuntime"]),
    tests("FilesTests", ["Files", "TensorRuntime"], exclude: ["Clips"]),
    tests(
      "PipelinesTests",
      [
        "Pipelines", "Benchmarking", "Training", "Diffusion", "Rewards", "Transport", "Models",
        "Layers",
        "Files", "TensorRuntime",
      ]),
    tests(
      "InterfaceTests",
      ["Interface", "CInterface", "Pipelines", "Rewards", "Files", "TensorRuntime"]),
    tests(
      "TrainingTests",
      [
        "Training", "Cluster", "Pipelines", "Diffusion", "World", "Files", "Models", "Layers",
        "TensorRuntime",
      ]),
    tests(
      "PostTrainingTests",
      ["PostTraining", "Pipelines", "Rewards", "Diffusion", "Models", "Layers", "TensorRuntime"]),
    tests(
      "EvaluationTests",
      [
        "Evaluation", "Pipelines", "Rewards", "Diffusion", "World", "Files", "Models", "Layers",
        "TensorRuntime",
      ]),
    tests(
      "BenchmarkingTests",
      [
        "Benchmarking", "PostTraining", "Pipelines", "Diffusion", "Rewards", "Transport", "Files",
        "Models", "Layers", "TensorRuntime",
      ]),
    tests(
      "piscesTests",
      ["pisces", "Evaluation", "PostTraining", "Training", "Files", "TensorRuntime"]),
    tests(
      "GoldenTests",
      [
        "TensorRuntime", "Layers", "Models", "Pipelines", "Diffusion", "Transport", "Rewards",
        "PostTraining", "Files",
      ]),
    tests("HouseTests", ["TensorRuntime", "Models", "Files"]),
  ]
)
