//! The public API, in one file: a change of it is seen in a change of that file.
//!
//! `UPDATE_API=1 cargo test --test it api::` writes `tests/it/api.txt` anew. What is `pub` is public:
//! the lint `unreachable_pub` sees to it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use syn::{
    Attribute, Fields, File, GenericArgument, ImplItem, Item, PathArguments, PathSegment,
    TraitItem, Type, Visibility,
};

/// The files of a folder and those below it, in order.
fn files(folder: &Path, out: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            files(&path, out);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            out.push(path);
        }
    }
}

fn is_public(vis: &Visibility) -> bool {
    matches!(vis, Visibility::Public(_))
}

fn is_test(attrs: &[Attribute]) -> bool {
    attrs.iter().any(|attr| {
        attr.path().is_ident("cfg")
            && attr.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("test"))
    })
}

/// Keeps what a user of the item has to know.
fn strip(attrs: &mut Vec<Attribute>) {
    const KEPT: [&str; 5] = ["derive", "non_exhaustive", "must_use", "deprecated", "default"];
    attrs.retain(|attr| KEPT.iter().any(|kept| attr.path().is_ident(kept)));
}

fn strip_fields(fields: &mut Fields) {
    match fields {
        Fields::Named(named) => {
            let fields = std::mem::take(&mut named.named).into_iter();
            named.named = fields.filter(|field| is_public(&field.vis)).collect();
            named.named.iter_mut().for_each(|field| strip(&mut field.attrs));
        }
        Fields::Unnamed(unnamed) => {
            let fields = std::mem::take(&mut unnamed.unnamed).into_iter();
            unnamed.unnamed = fields.filter(|field| is_public(&field.vis)).collect();
        }
        Fields::Unit => {}
    }
}

/// Items of a file and of its inline modules.
fn flat(items: Vec<Item>, out: &mut Vec<Item>) {
    for item in items {
        match item {
            Item::Mod(module) if is_test(&module.attrs) => {}
            Item::Mod(module) => {
                if let Some((_, items)) = module.content {
                    flat(items, out);
                }
            }
            other => out.push(other),
        }
    }
}

/// The name of a type that is a path.
fn name(of: &Type) -> Option<String> {
    match of {
        Type::Path(path) => Some(path.path.segments.last()?.ident.to_string()),
        Type::Reference(reference) => name(&reference.elem),
        _ => None,
    }
}

/// Whether a trait, or a type that it is given, is one of the crate's own and not public.
fn is_private(of: &PathSegment, private: &BTreeSet<String>) -> bool {
    let given = match &of.arguments {
        PathArguments::AngleBracketed(given) => given.args.iter().collect(),
        _ => Vec::new(),
    };
    let mut names = given.into_iter().filter_map(|given| match given {
        GenericArgument::Type(given) => name(given),
        _ => None,
    });
    private.contains(&of.ident.to_string()) || names.any(|name| private.contains(&name))
}

/// The public part of an item, if it has one.
fn public(item: Item, types: &BTreeSet<String>, private: &BTreeSet<String>) -> Option<Item> {
    let empty = || syn::parse_quote!({});
    match item {
        Item::Struct(mut item) if is_public(&item.vis) => {
            strip(&mut item.attrs);
            strip_fields(&mut item.fields);
            Some(Item::Struct(item))
        }
        Item::Enum(mut item) if is_public(&item.vis) => {
            strip(&mut item.attrs);
            for variant in &mut item.variants {
                strip(&mut variant.attrs);
                variant.fields.iter_mut().for_each(|field| strip(&mut field.attrs));
            }
            Some(Item::Enum(item))
        }
        Item::Trait(mut item) if is_public(&item.vis) => {
            strip(&mut item.attrs);
            for inner in &mut item.items {
                if let TraitItem::Fn(function) = inner {
                    strip(&mut function.attrs);
                    function.default = function.default.as_ref().map(|_| empty());
                }
            }
            Some(Item::Trait(item))
        }
        Item::Fn(mut item) if is_public(&item.vis) => {
            strip(&mut item.attrs);
            *item.block = empty();
            Some(Item::Fn(item))
        }
        Item::Const(mut item) if is_public(&item.vis) => {
            strip(&mut item.attrs);
            item.expr = Box::new(syn::parse_quote!(_));
            Some(Item::Const(item))
        }
        Item::Type(mut item) if is_public(&item.vis) => {
            strip(&mut item.attrs);
            Some(Item::Type(item))
        }
        Item::Use(mut item) if is_public(&item.vis) => {
            strip(&mut item.attrs);
            Some(Item::Use(item))
        }
        Item::Impl(mut item) if name(&item.self_ty).is_some_and(|name| types.contains(&name)) => {
            strip(&mut item.attrs);
            if let Some((of, _)) = &item.trait_ {
                let is_private = is_private(of.segments.last()?, private);
                item.items.retain(|inner| matches!(inner, ImplItem::Type(_)));
                return (!is_private).then_some(Item::Impl(item));
            }
            item.items.retain(|inner| match inner {
                ImplItem::Fn(function) => is_public(&function.vis),
                ImplItem::Const(constant) => is_public(&constant.vis),
                _ => false,
            });
            for inner in &mut item.items {
                match inner {
                    ImplItem::Fn(function) => {
                        strip(&mut function.attrs);
                        function.block = empty();
                    }
                    ImplItem::Const(constant) => {
                        strip(&mut constant.attrs);
                        constant.expr = syn::parse_quote!(_);
                    }
                    _ => {}
                }
            }
            (!item.items.is_empty()).then_some(Item::Impl(item))
        }
        _ => None,
    }
}

/// The public API as Rust without bodies, a section a file.
fn api(root: &Path) -> String {
    let mut paths = Vec::new();
    files(&root.join("src"), &mut paths);
    paths.retain(|path| {
        let file = path.file_stem().and_then(|stem| stem.to_str());
        file != Some("tests") && !path.components().any(|part| part.as_os_str() == "tests")
    });
    let mut sections = Vec::new();
    let (mut types, mut private) = (BTreeSet::new(), BTreeSet::new());
    for path in paths {
        let mut items = Vec::new();
        flat(syn::parse_file(&std::fs::read_to_string(&path).unwrap()).unwrap().items, &mut items);
        for item in &items {
            match item {
                Item::Struct(item) if is_public(&item.vis) => types.insert(item.ident.to_string()),
                Item::Enum(item) if is_public(&item.vis) => types.insert(item.ident.to_string()),
                Item::Struct(item) => private.insert(item.ident.to_string()),
                Item::Enum(item) => private.insert(item.ident.to_string()),
                Item::Trait(item) if !is_public(&item.vis) => {
                    private.insert(item.ident.to_string())
                }
                _ => false,
            };
        }
        sections.push((path.strip_prefix(root).unwrap().to_owned(), items));
    }
    let mut text = String::new();
    for (path, items) in sections {
        let public = items.into_iter().filter_map(|item| public(item, &types, &private));
        let items: Vec<_> = public.collect();
        if !items.is_empty() {
            let mut file: File = syn::parse_quote!();
            file.items = items;
            let path = path.display().to_string().replace('\\', "/");
            text += &format!("// {path}\n{}\n", prettyplease::unparse(&file));
        }
    }
    text
}

#[test]
fn the_public_api_is_as_it_was_written_down() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let place = root.join("tests/it/api.txt");
    let now = api(root);
    if std::env::var_os("UPDATE_API").is_some() {
        std::fs::write(&place, &now).unwrap();
    }
    let written = std::fs::read_to_string(&place).unwrap_or_default().replace("\r\n", "\n");
    let differs = written.lines().zip(now.lines()).find(|(written, now)| written != now);
    assert_eq!(written, now, "first at {differs:?}; UPDATE_API=1 writes it anew");
}

#[test]
fn what_threads_share_can_be_shared() {
    fn shared<T: Send + Sync + 'static>() {}
    fn sent<T: Send + 'static>() {}
    shared::<toolpool::Executor>();
    shared::<toolpool::ExecutorBuilder>();
    shared::<toolpool::Tool>();
    shared::<toolpool::ToolSet>();
    shared::<toolpool::Group>();
    shared::<toolpool::Turn>();
    shared::<toolpool::Report>();
    shared::<toolpool::Outcome>();
    shared::<toolpool::Suspended>();
    shared::<toolpool::CallContext>();
    shared::<toolpool::CancelToken>();
    shared::<toolpool::FailurePolicy>();
    shared::<toolpool::Error>();
    shared::<toolpool::ToolError>();
    shared::<toolpool::Agent>();
    shared::<toolpool::agent::Conversation>();
    shared::<toolpool::agent::AgentError>();
    shared::<toolpool::model::ScriptedModel>();
    shared::<toolpool::model::ModelError>();
    #[cfg(feature = "http")]
    shared::<toolpool::model::Client>();
    sent::<toolpool::Batch>();
    sent::<toolpool::rows::Rows>();
    sent::<toolpool::wire::Assembler>();
}
