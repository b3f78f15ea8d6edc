//! The types that columns of fixed width hold.

use crate::layout::Element;

/// A type that columns of fixed width hold. Sealed.
pub trait Number: bytemuck::Pod + Default + sealed::Sealed {
    /// How it is stored.
    const ELEMENT: Element;
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! number {
    ($($type:ty => $element:ident),+) => {
        $(impl sealed::Sealed for $type {}
        impl Number for $type {
            const ELEMENT: Element = Element::$element;
        })+
    };
}

number!(i8 => I8, i16 => I16, i32 => I32, i64 => I64, i128 => I128, u8 => U8, u16 => U16, u32 => U32, u64 => U64,
    f32 => F32, f64 => F64);
