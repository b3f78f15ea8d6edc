//! The derive macro of `forebay-sdk`: `#[derive(Row)]`. Use it through that crate, which documents it.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::spanned::Spanned as _;
use syn::{Data, DeriveInput, Error, Field, Fields, GenericParam, LitStr, Result, parse_macro_input};

/// Reads a batch's columns into a struct for each row. Fields may be any `forebay_sdk::row::Cell`; `#[column("name")]` gives the
/// name of the column in the schema where it is not the field's.
#[proc_macro_derive(Row, attributes(column))]
pub fn row(input: proc_macro::TokenStream) -> proc_macro::TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    expand(&input).unwrap_or_else(Error::into_compile_error).into()
}

fn expand(input: &DeriveInput) -> Result<TokenStream> {
    let fields = named_fields(input)?;
    let name = &input.ident;
    let (arguments, lifetime) = lifetime(input)?;
    let mut columns = Vec::new();
    let mut views = Vec::new();
    let mut types = Vec::new();
    let mut reads = Vec::new();
    for (index, field) in fields.iter().enumerate() {
        let Some(ident) = &field.ident else { continue };
        let word = ident.to_string();
        let word = word.strip_prefix("r#").unwrap_or(&word).to_owned();
        let column = column_name(field)?.unwrap_or_else(|| word.clone());
        let ty = &field.ty;
        let cell = quote_spanned!(ty.span()=> <#ty as ::forebay_sdk::row::Cell<#lifetime>>);
        columns.push(quote! {
            ::forebay_sdk::row::RowColumn { field: #word, name: #column, kind: #cell::KIND, required: #cell::REQUIRED }
        });
        types.push(quote!(#cell::View));
        views.push(quote! {
            #cell::view(batch.column(#word))
                .map_err(|error| ::forebay_sdk::RuleError::new(::std::format!("column {:?}: {error}", #word)))?
        });
        let index = syn::Index::from(index);
        reads.push(quote!(#ident: #cell::read(&views.#index, row)));
    }
    Ok(quote! {
        #[automatically_derived]
        impl<#lifetime> ::forebay_sdk::row::Row<#lifetime> for #name #arguments {
            const COLUMNS: &'static [::forebay_sdk::row::RowColumn] = &[#(#columns),*];
            type Views = (#(#types,)*);

            fn views(batch: &#lifetime ::forebay_sdk::Batch) -> ::std::result::Result<Self::Views, ::forebay_sdk::RuleError> {
                ::std::result::Result::Ok((#(#views,)*))
            }

            #[inline]
            fn read(views: &Self::Views, row: usize) -> Self {
                Self { #(#reads),* }
            }
        }
    })
}

fn named_fields(input: &DeriveInput) -> Result<&syn::punctuated::Punctuated<Field, syn::Token![,]>> {
    match &input.data {
        Data::Struct(data) => match &data.fields {
            Fields::Named(fields) if !fields.named.is_empty() => Ok(&fields.named),
            Fields::Named(_) | Fields::Unnamed(_) | Fields::Unit => {
                Err(Error::new(input.ident.span(), "a row has named fields, one for each column"))
            }
        },
        Data::Enum(_) | Data::Union(_) => Err(Error::new(input.ident.span(), "a row is a struct")),
    }
}

/// The generic arguments of the struct, and the lifetime of the batch: the struct's own where it has one.
fn lifetime(input: &DeriveInput) -> Result<(TokenStream, TokenStream)> {
    let mut parameters = input.generics.params.iter();
    match (parameters.next(), parameters.next()) {
        (None, _) => Ok((TokenStream::new(), quote!('batch))),
        (Some(GenericParam::Lifetime(parameter)), None) => {
            let lifetime = &parameter.lifetime;
            Ok((quote!(<#lifetime>), quote!(#lifetime)))
        }
        (Some(other), _) => Err(Error::new(other.span(), "a row has no generics but one lifetime, that of the batch")),
    }
}

fn column_name(field: &Field) -> Result<Option<String>> {
    let mut name = None;
    for attribute in &field.attrs {
        if attribute.path().is_ident("column") {
            if name.is_some() {
                return Err(Error::new(attribute.span(), "a field is one column"));
            }
            name = Some(attribute.parse_args::<LitStr>()?.value());
        }
    }
    Ok(name)
}
