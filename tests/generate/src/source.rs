//! Our WIT as it was written: every package under `wit/`, without what is generated.

use std::{fs, path::Path};

use anyhow::{Context as _, bail, ensure};
use wit_parser::{
    Docs, Function, FunctionKind, InterfaceId, PackageId, Resolve, SourceMap, Type, TypeDef, TypeDefKind, TypeId,
    TypeOwner, UnresolvedPackageGroup,
};

/// What ends the name of a twin.
pub(crate) const TWIN: &str = "-sync";

/// All packages, resolved.
pub(crate) struct Source {
    pub(crate) resolve: Resolve,
    packages: Vec<Package>,
}

/// One of our packages.
pub(crate) struct Package {
    pub(crate) id: PackageId,
    /// Its name without the namespace.
    pub(crate) name: String,
    pub(crate) interfaces: Vec<Interface>,
}

/// An interface of a package.
pub(crate) struct Interface {
    pub(crate) id: InterfaceId,
    pub(crate) name: String,
    /// `witan:task/handler@0.1.0-draft`.
    pub(crate) full_name: String,
    /// The full name of its twin.
    pub(crate) twin_name: String,
}

impl Interface {
    pub(crate) fn has_functions(&self, source: &Source) -> bool {
        !source.resolve.interfaces[self.id].functions.is_empty()
    }
}

/// What a function gives.
pub(crate) enum Gives {
    /// Nothing.
    Nothing,
    /// A value.
    Value(Type),
    /// A value or one of our errors, which can say that the host did not complete the call.
    Fallible(Type),
    /// A stream of items, and how it ended.
    Run { item: Type, verdict: Type },
}

/// What a function takes.
pub(crate) enum Takes {
    Value(Type),
    Stream(Type),
}

impl Source {
    pub(crate) fn read(folder: &Path) -> anyhow::Result<Self> {
        let mut waiting = Vec::new();
        for entry in fs::read_dir(folder).with_context(|| format!("cannot read `{}`", folder.display()))? {
            let path = entry?.path();
            if path.is_dir() && path.file_name().is_some_and(|name| name != "deps") {
                waiting.push(parse(&path)?);
            }
        }
        waiting.sort_by_key(|group| group.main.name.to_string());
        let mut resolve = Resolve::default();
        let mut ids = Vec::new();
        while !waiting.is_empty() {
            // Packages are pushed after those that they use, whatever the order of the folders.
            let ready = waiting
                .iter()
                .position(|group| group.main.foreign_deps.keys().all(|name| resolve.package_names.contains_key(name)));
            let Some(ready) = ready else {
                bail!("`{}` uses a package that is not under `wit/`, or itself by a detour", waiting[0].main.name)
            };
            ids.push(resolve.push_group(waiting.remove(ready))?);
        }
        let packages = ids.into_iter().map(|id| package(&resolve, id)).collect();
        let source = Self { resolve, packages };
        source.check()?;
        Ok(source)
    }

    pub(crate) fn packages(&self) -> &[Package] {
        &self.packages
    }

    pub(crate) fn functions(&self, interface: &Interface) -> impl Iterator<Item = &Function> {
        self.resolve.interfaces[interface.id].functions.values()
    }

    pub(crate) fn docs<'a>(&self, docs: &'a Docs) -> &'a str {
        docs.contents.as_deref().unwrap_or_default().trim()
    }

    /// The package and the definition that `id` stands for, through any `use`.
    pub(crate) fn definition(&self, mut id: TypeId) -> &TypeDef {
        while let TypeDefKind::Type(Type::Id(other)) = self.resolve.types[id].kind {
            id = other;
        }
        &self.resolve.types[id]
    }

    pub(crate) fn package_of(&self, definition: &TypeDef) -> Option<&Package> {
        let TypeOwner::Interface(interface) = definition.owner else { return None };
        let id = self.resolve.interfaces[interface].package?;
        self.packages.iter().find(|package| package.id == id)
    }

    /// What `function` takes, by name.
    pub(crate) fn takes<'a>(&self, function: &'a Function) -> Vec<(&'a str, Takes)> {
        let takes = |ty: &Type| match self.kind(ty) {
            Some(TypeDefKind::Stream(Some(item))) => Takes::Stream(*item),
            _ => Takes::Value(*ty),
        };
        function.params.iter().map(|param| (param.name.as_str(), takes(&param.ty))).collect()
    }

    /// What `function` gives.
    pub(crate) fn gives(&self, function: &Function) -> Gives {
        let Some(result) = function.result else { return Gives::Nothing };
        match self.kind(&result) {
            Some(TypeDefKind::Result(parts)) if parts.err.is_some_and(|error| self.has_call_failed(&error)) => {
                Gives::Fallible(result)
            }
            Some(TypeDefKind::Tuple(parts)) => match parts.types.as_slice() {
                [stream, future] => match (self.kind(stream), self.kind(future)) {
                    (Some(TypeDefKind::Stream(Some(item))), Some(TypeDefKind::Future(Some(verdict)))) => {
                        Gives::Run { item: *item, verdict: *verdict }
                    }
                    _ => Gives::Value(result),
                },
                _ => Gives::Value(result),
            },
            _ => Gives::Value(result),
        }
    }

    pub(crate) fn kind(&self, ty: &Type) -> Option<&TypeDefKind> {
        match ty {
            Type::Id(id) => Some(&self.definition(*id).kind),
            _ => None,
        }
    }

    fn has_call_failed(&self, ty: &Type) -> bool {
        matches!(self.kind(ty), Some(TypeDefKind::Variant(variant))
            if variant.cases.iter().any(|case| case.name == "call-failed"))
    }

    /// Refuses what twins and forwarders do not cover.
    fn check(&self) -> anyhow::Result<()> {
        for interface in self.packages.iter().flat_map(|package| &package.interfaces) {
            let name = &interface.full_name;
            for (local, id) in &self.resolve.interfaces[interface.id].types {
                let definition = &self.resolve.types[*id];
                let own = !matches!(&definition.kind, TypeDefKind::Type(Type::Id(_)));
                ensure!(
                    !(own && interface.has_functions(self)),
                    "`{local}` in `{name}` is a type beside functions; move it to `types`, which the twin shares"
                );
                ensure!(
                    !matches!(definition.kind, TypeDefKind::Resource),
                    "`{local}` in `{name}` is a resource, which no forwarder carries"
                );
            }
            for function in self.functions(interface) {
                ensure!(
                    matches!(function.kind, FunctionKind::AsyncFreestanding),
                    "`{}` in `{name}` is not an `async func`",
                    function.name
                );
                if let Gives::Run { verdict, .. } = self.gives(function) {
                    ensure!(
                        matches!(self.kind(&verdict), Some(TypeDefKind::Result(result))
                            if result.err.is_some_and(|error| self.has_call_failed(&error))),
                        "the future of `{}` in `{name}` is no result whose error has the case `call-failed`",
                        function.name
                    );
                }
            }
        }
        Ok(())
    }
}

fn parse(folder: &Path) -> anyhow::Result<UnresolvedPackageGroup> {
    let mut map = SourceMap::new();
    let mut paths = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    paths.sort();
    for path in paths {
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        if path.extension().is_some_and(|extension| extension == "wit") && !stem.ends_with(TWIN) {
            map.push_file(&path)?;
        }
    }
    map.parse().map_err(|(map, error)| anyhow::anyhow!("{}", error.render(&map)))
}

fn package(resolve: &Resolve, id: PackageId) -> Package {
    let package = &resolve.packages[id];
    let interfaces = package.interfaces.iter().map(|(name, interface)| Interface {
        id: *interface,
        name: name.clone(),
        full_name: package.name.interface_id(name),
        twin_name: package.name.interface_id(&format!("{name}{TWIN}")),
    });
    Package { id, name: package.name.name.clone(), interfaces: interfaces.collect() }
}
