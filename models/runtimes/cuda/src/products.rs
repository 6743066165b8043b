//! Products of 16-bit matrices by cublasLt, accumulated in float32.

use std::collections::HashMap;
use std::mem::size_of;
use std::sync::Arc;

use cudarc::cublaslt::result as lt;
use cudarc::cublaslt::sys::{
    cublasComputeType_t, cublasLtEpilogue_t, cublasLtHandle_t, cublasLtMatmulAlgo_t, cublasLtMatmulDesc_t,
    cublasLtMatmulDescAttributes_t, cublasLtMatmulPreference_t, cublasLtMatmulPreferenceAttributes_t,
    cublasLtMatrixLayout_t, cudaDataType,
};
use cudarc::driver::sys::CUdeviceptr;
use cudarc::driver::{CudaSlice, CudaStream};

use super::device::{Fault, Format};

/// Memory that cublasLt may use, in bytes: what NVIDIA recommends for Hopper.
const WORKSPACE_BYTES: usize = 32 << 20;
/// Shapes whose algorithm is kept; beyond that all are looked up anew.
const ALGORITHMS_MAX: usize = 8192;

/// Multiplies on one stream.
pub(super) struct Products {
    handle: cublasLtHandle_t,
    stream: Arc<CudaStream>,
    workspace: CudaSlice<u8>,
    algorithms: HashMap<Shape, cublasLtMatmulAlgo_t>,
}

// SAFETY: a handle of cublasLt may be used by any thread (cuBLAS documentation, "Thread Safety"), and is used
// by one at a time.
unsafe impl Send for Products {}

/// `[rows, inputs] x [outputs, inputs]^T`, and what is added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Shape {
    format: Format,
    rows: usize,
    stride: usize,
    inputs: usize,
    outputs: usize,
    then: Epilogue,
}

/// What a product does with its sums before it writes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Epilogue {
    Write,
    AddBias,
    /// Adds the bias and applies GELU, by its approximation with tanh (Hendrycks and Gimpel, 2016, section
    /// 2).
    AddBiasAndGelu,
}

pub(super) struct Product {
    pub(super) format: Format,
    /// `[rows, inputs]`, row-major.
    pub(super) from: CUdeviceptr,
    /// Numbers from one row of it to the next.
    pub(super) stride: usize,
    /// `[outputs, inputs]`, row-major.
    pub(super) weight: CUdeviceptr,
    /// `[outputs]`
    pub(super) bias: CUdeviceptr,
    pub(super) then: Epilogue,
    /// `[rows, outputs]`, row-major.
    pub(super) to: CUdeviceptr,
    pub(super) rows: usize,
    pub(super) inputs: usize,
    pub(super) outputs: usize,
}

/// What describes a product to cublasLt.
struct ProductDescription {
    operation: Operation,
    weight: Layout,
    from: Layout,
    to: Layout,
}

/// What is multiplied how.
struct Operation(cublasLtMatmulDesc_t);

/// A matrix in memory.
struct Layout(cublasLtMatrixLayout_t);

impl Products {
    pub(super) fn new(stream: Arc<CudaStream>) -> Result<Self, Fault> {
        // SAFETY: written by cublasLt before it is read by it.
        let workspace = unsafe { stream.alloc::<u8>(WORKSPACE_BYTES) }?;
        Ok(Self { handle: lt::create_handle()?, stream, workspace, algorithms: HashMap::new() })
    }

    /// Computes a product.
    ///
    /// # Safety
    /// The addresses are of device memory of these shapes in this format, which lives until the stream has
    /// passed.
    pub(super) unsafe fn multiply(&mut self, product: &Product) -> Result<(), Fault> {
        let described = ProductDescription::new(product)?;
        let algorithm = self.algorithm(product, &described)?;
        let (one, zero) = (1.0f32, 0.0f32);
        let (workspace, _used) = cudarc::driver::DevicePtr::device_ptr(&self.workspace, &self.stream);
        // SAFETY: what is described is alive, and the caller vouches for the addresses.
        unsafe {
            lt::matmul(
                self.handle,
                described.operation.0,
                (&raw const one).cast(),
                (&raw const zero).cast(),
                product.weight as *const _,
                described.weight.0,
                product.from as *const _,
                described.from.0,
                product.to as *const _,
                described.to.0,
                product.to as *mut _,
                described.to.0,
                &raw const algorithm,
                workspace as *mut _,
                WORKSPACE_BYTES,
                self.stream.cu_stream().cast(),
            )
        }?;
        Ok(())
    }

    /// The algorithm for a shape, from cublasLt's heuristic the first time.
    fn algorithm(
        &mut self,
        product: &Product,
        described: &ProductDescription,
    ) -> Result<cublasLtMatmulAlgo_t, Fault> {
        let Product { format, rows, stride, inputs, outputs, then, .. } = *product;
        let shape = Shape { format, rows, stride, inputs, outputs, then };
        if let Some(known) = self.algorithms.get(&shape) {
            return Ok(*known);
        }
        let preference = Preference::new()?;
        // SAFETY: everything named here is alive.
        let found = unsafe {
            lt::get_matmul_algo_heuristic(
                self.handle,
                described.operation.0,
                described.weight.0,
                described.from.0,
                described.to.0,
                described.to.0,
                preference.0,
            )
        }?;
        if self.algorithms.len() >= ALGORITHMS_MAX {
            self.algorithms.clear();
        }
        self.algorithms.insert(shape, found.algo);
        Ok(found.algo)
    }
}

impl Drop for Products {
    fn drop(&mut self) {
        // SAFETY: nobody uses it any more. There is nothing to be done about an error.
        let _ = unsafe { lt::destroy_handle(self.handle) };
    }
}

impl ProductDescription {
    /// cublasLt's matrices are column-major: row-major `[r, c]` is its `[c, r]`. So `to^T [outputs, rows]` is
    /// the weight, transposed back, times `from^T [inputs, rows]`.
    fn new(product: &Product) -> Result<Self, Fault> {
        let kind = product.format.data_type();
        let (rows, inputs, outputs) = (product.rows as u64, product.inputs as u64, product.outputs as u64);
        let layout = |rows, columns, stride| -> Result<_, Fault> {
            Ok(Layout(lt::create_matrix_layout(kind, rows, columns, stride as i64)?))
        };
        let compute = cublasComputeType_t::CUBLAS_COMPUTE_32F;
        let described = Self {
            operation: Operation(lt::create_matmul_desc(compute, cudaDataType::CUDA_R_32F)?),
            weight: layout(inputs, outputs, inputs)?,
            from: layout(inputs, rows, product.stride as u64)?,
            to: layout(outputs, rows, outputs)?,
        };
        described.set(cublasLtMatmulDescAttributes_t::CUBLASLT_MATMUL_DESC_TRANSA, &1i32)?;
        let epilogue = match product.then {
            Epilogue::Write => return Ok(described),
            Epilogue::AddBias => cublasLtEpilogue_t::CUBLASLT_EPILOGUE_BIAS,
            Epilogue::AddBiasAndGelu => cublasLtEpilogue_t::CUBLASLT_EPILOGUE_GELU_BIAS,
        };
        described.set(cublasLtMatmulDescAttributes_t::CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue)?;
        described.set(cublasLtMatmulDescAttributes_t::CUBLASLT_MATMUL_DESC_BIAS_POINTER, &product.bias)?;
        Ok(described)
    }

    fn set<V>(&self, attribute: cublasLtMatmulDescAttributes_t, value: &V) -> Result<(), Fault> {
        let address = std::ptr::from_ref(value).cast();
        // SAFETY: cublasLt copies that many bytes of the value.
        unsafe { lt::set_matmul_desc_attribute(self.operation.0, attribute, address, size_of::<V>()) }?;
        Ok(())
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        // SAFETY: nobody uses it any more: cublasLt has read it when a call returns.
        let _ = unsafe { lt::destroy_matmul_desc(self.0) };
    }
}

impl Drop for Layout {
    fn drop(&mut self) {
        // SAFETY: as above.
        let _ = unsafe { lt::destroy_matrix_layout(self.0) };
    }
}

/// How much memory an algorithm may use.
struct Preference(cublasLtMatmulPreference_t);

impl Preference {
    fn new() -> Result<Self, Fault> {
        let preference = Self(lt::create_matmul_pref()?);
        let attribute = cublasLtMatmulPreferenceAttributes_t::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES;
        let bytes = WORKSPACE_BYTES;
        let address = (&raw const bytes).cast();
        // SAFETY: cublasLt copies that many bytes of the value.
        unsafe { lt::set_matmul_pref_attribute(preference.0, attribute, address, size_of::<usize>()) }?;
        Ok(preference)
    }
}

impl Drop for Preference {
    fn drop(&mut self) {
        // SAFETY: as above.
        let _ = unsafe { lt::destroy_matmul_pref(self.0) };
    }
}
