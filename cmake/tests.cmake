# rq_test(tests/base/test_file.c [arguments...]) makes the test base_file. Tests link the static library, so internals are
# reachable, and run in the source folder. RQ_TEST_TMP is a folder they may write in.
find_package(PkgConfig REQUIRED)
pkg_check_modules(CMOCKA REQUIRED IMPORTED_TARGET cmocka)
set(RQ_TEST_TMP ${CMAKE_BINARY_DIR}/tests/tmp)
file(MAKE_DIRECTORY ${RQ_TEST_TMP})

function(rq_test file)
  string(REGEX REPLACE "^tests/(.*)\\.c$" "\\1" name ${file})
  string(REGEX REPLACE "(^|/)test_" "\\1" name ${name})
  string(REPLACE "/" "_" name ${name})
  add_executable(test_${name} ${file})
  target_include_directories(test_${name} PRIVATE src tests ${RQ_GEN})
  target_compile_definitions(test_${name} PRIVATE RQ_TEST_TMP="${RQ_TEST_TMP}")
  target_link_libraries(test_${name} PRIVATE requant_static rq_deps PkgConfig::CMOCKA)
  set_target_properties(test_${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY tests)
  add_test(NAME ${name} COMMAND test_${name} ${ARGN} WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
  set_tests_properties(${name} PROPERTIES TIMEOUT 300)
endfunction()

# of `make check`: built and run by tools/check.sh
foreach(big formats coreml)
  string(REPLACE "test_formats_big" "test_big" name test_${big}_big)
  add_executable(${name} EXCLUDE_FROM_ALL tests/${big}/test_big.c)
  target_compile_definitions(${name} PRIVATE RQ_TEST_TMP="${RQ_TEST_TMP}")
  target_link_libraries(${name} PRIVATE requant_static rq_deps PkgConfig::CMOCKA)
  target_include_directories(${name} PRIVATE include src tests ${RQ_GEN})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY tests)
endforeach()

# A program of the tests that prints for itself: rq_test_tool(golden sources...)
function(rq_test_tool name)
  add_executable(${name} ${ARGN})
  target_include_directories(${name} PRIVATE src)
  target_link_libraries(${name} PRIVATE requant_static rq_deps)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY tests)
endfunction()

find_program(RQ_CXX NAMES c++ g++ clang++)
add_test(NAME headers COMMAND ${CMAKE_SOURCE_DIR}/tests/headers/test_headers.sh ${CMAKE_C_COMPILER} $<$<BOOL:${RQ_CXX}>:${RQ_CXX}>)
add_test(NAME layers COMMAND ${CMAKE_SOURCE_DIR}/tools/check_layers.sh)
add_test(NAME documented COMMAND ${CMAKE_SOURCE_DIR}/tools/check_docs.sh)
add_test(NAME acceptance COMMAND ${CMAKE_SOURCE_DIR}/tools/check_acceptance.sh)

# One line per test, in the order of the folders.
rq_test(tests/base/test_base.c)
rq_test(tests/kernels/test_conv_grad.c)
rq_test(tests/kernels/test_dwlast.c)
rq_test(tests/kernels/test_dwplane.c)
rq_test(tests/kernels/test_eltwise.c)
rq_test(tests/kernels/test_fakequant.c)
rq_test(tests/kernels/test_gemm_packed.c)
rq_test(tests/kernels/test_products_f32.c)
rq_test(tests/kernels/test_qgemm.c)
rq_test(tests/kernels/test_winograd.c)
# AVX-VNNI on machines that have AVX-512 VNNI instead
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  foreach(family dwlast qgemm)
    target_sources(test_kernels_${family} PRIVATE tests/kernels/avxvnni_${family}.c)
    set_source_files_properties(tests/kernels/avxvnni_${family}.c PROPERTIES COMPILE_OPTIONS "-mavx2;-mfma;-mavx512f;-mavx512vl;-mavx512vnni")
  endforeach()
endif()
rq_test(tests/kernels/test_move.c)
# a gate that no clock disturbs; instructions depend on the compiler, so that it holds for the one that the numbers are from
if(CMAKE_C_COMPILER_ID STREQUAL "GNU" AND CMAKE_C_COMPILER_VERSION MATCHES "^12\\." AND CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64"
   AND CMAKE_BUILD_TYPE STREQUAL "RelWithDebInfo" AND NOT RQ_SANITIZE AND NOT CMAKE_C_FLAGS)
  rq_test_tool(instructions tests/kernels/instructions.c)
  add_test(NAME kernels_instructions COMMAND ${CMAKE_SOURCE_DIR}/tests/kernels/instructions.sh $<TARGET_FILE:instructions>)
  set_tests_properties(kernels_instructions PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 120)
endif()
rq_test(tests/kernels/test_pool8.c)
rq_test(tests/kernels/test_qadd.c)
rq_test(tests/kernels/test_quantize.c)
rq_test(tests/kernels/test_relayout.c)
rq_test(tests/kernels/test_stats.c)
rq_test(tests/kernels/test_sums.c)
rq_test(tests/tensor/test_convert.c)
rq_test(tests/tensor/test_qtype.c)
rq_test(tests/tensor/test_state.c)
rq_test(tests/graph/test_graph.c)
rq_test(tests/graph/test_modules.c)
rq_test(tests/quant/test_blocks.c)
rq_test(tests/quant/test_calibrate.c)
rq_test(tests/quant/test_fake_quantize.c)
rq_test(tests/quant/test_fake_quantize_random.c)
rq_test(tests/quant/test_documented_observers.c)
rq_test(tests/quant/test_calibrator.c)
rq_test(tests/quant/test_calibrator_edges.c)
rq_test(tests/quant/test_calibrator_states.c)
rq_test(tests/quant/test_calibrator_tables.c)
rq_test(tests/quant/test_golden_qparams.c)
rq_test(tests/quant/test_fake_quantizer.c)
rq_test(tests/quant/test_fake_quantizer_own.c)
rq_test(tests/quant/test_fake_quantizer_refused.c)
rq_test(tests/quant/test_fake_quantizer_tensors.c)
rq_test(tests/quant/test_learned_quantize.c)
rq_test(tests/quant/test_histogram_observer.c)
rq_test(tests/quant/test_quant_desc.c)
rq_test(tests/quant/test_qconfig.c)
rq_test(tests/quant/test_qconfig_mapping.c)
rq_test(tests/quant/test_observer.c)
rq_test(tests/quant/test_observer_edges.c)
rq_test(tests/quant/test_observer_tables.c)
rq_test(tests/quant/test_stacked.c)
rq_test(tests/quant/test_stream.c)
rq_test(tests/quant/test_tensor_quant.c)
rq_test(tests/quant/test_tensor_quant_edges.c)
rq_test(tests/quant/test_tensor_quant_vectors.c)
rq_test(tests/quant/test_tensor_quantizer.c)
rq_test(tests/quant/test_tensor_quantizer_edges.c)
rq_test(tests/ops/test_batch_train.c)
rq_test(tests/ops/test_edges.c)
rq_test(tests/ops/test_edit.c)
rq_test(tests/ops/test_float_ops.c)
rq_test(tests/ops/test_infer.c)
rq_test(tests/ops/test_int_bits.c)
rq_test(tests/ops/test_recurrent.c)
rq_test(tests/ops/test_samples.c)
rq_test(tests/ops/test_int_conv.c)
rq_test(tests/ops/test_int_forms.c)
rq_test(tests/ops/test_int_attend.c)
rq_test(tests/ops/test_int_ops.c)
rq_test(tests/ops/test_last.c)
rq_test(tests/ops/test_lower.c)
rq_test(tests/ops/test_peer_oom.c)
rq_test(tests/ops/test_packs.c)
rq_test(tests/ops/test_raise.c)
rq_test(tests/coreml/test_metadata.c)
rq_test(tests/coreml/test_palette_tables.c)
rq_test(tests/coreml/test_packages.c)
rq_test(tests/coreml/test_palettize.c)
rq_test(tests/coreml/test_prune.c)
rq_test(tests/coreml/test_siblings.c)
rq_test(tests/formats/test_coreml.c)
rq_test(tests/formats/test_coreml_bad.c)
rq_test(tests/formats/test_coreml_write.c)
rq_test(tests/formats/test_mil_emit.c)
rq_test(tests/formats/test_mil_rows.c)
rq_test(tests/formats/test_mil_graph.c)
rq_test(tests/formats/test_mil_ops.c)
rq_test(tests/formats/test_images.c)
rq_test(tests/formats/test_model_input.c)
rq_test(tests/formats/test_npy.c)
rq_test(tests/formats/test_onnx_bad.c)
rq_test(tests/formats/test_onnx_recurrent.c)
rq_test(tests/formats/test_onnx_write.c)
rq_test(tests/formats/test_ranges.c)
rq_test(tests/formats/test_opsets.c)
rq_test(tests/formats/test_safetensors.c)
rq_test(tests/formats/test_samples.c)
rq_test(tests/formats/test_samples_refused.c)
rq_test(tests/formats/test_spelling.c)
rq_test(tests/run/test_autograd.c)
rq_test(tests/run/test_autograd_fakes.c)
rq_test(tests/run/test_autograd_memory.c)
rq_test(tests/run/test_autograd_torch.c)
rq_test(tests/run/test_dynamic.c)
rq_test(tests/run/test_float.c)
rq_test(tests/run/test_last.c)
rq_test(tests/run/test_join.c)
rq_test(tests/run/test_layout.c)
rq_test(tests/run/test_parts.c)
rq_test(tests/run/test_places.c)
rq_test(tests/run/test_batch.c)
rq_test(tests/run/test_posts.c)
rq_test(tests/run/test_deploy.c)
rq_test(tests/run/test_products.c)
rq_test(tests/run/test_session.c)
rq_test(tests/run/test_share.c)
rq_test(tests/run/test_strings.c)
rq_test(tests/run/test_views.c)
set_source_files_properties(tests/run/test_strings.c PROPERTIES COMPILE_OPTIONS -fno-builtin) # it defines strcmp and its like
rq_test(tests/nn/test_eager.c)
rq_test(tests/nn/test_fuse.c)
rq_test(tests/nn/test_nn.c)
rq_test(tests/nn/test_state_dict.c)
rq_test(tests/algo/test_dynamic.c)
rq_test(tests/algo/test_dynamic_cells.c)
rq_test(tests/algo/test_ends.c)
rq_test(tests/algo/test_compat.c)
rq_test(tests/algo/test_fold.c)
rq_test(tests/algo/test_fold_train.c)
rq_test(tests/algo/test_half.c)
rq_test(tests/algo/test_locale.c)
rq_test(tests/algo/test_optim.c)
rq_test(tests/algo/test_place.c)
rq_test(tests/algo/test_profile.c)
rq_test(tests/algo/test_ptq.c)
rq_test(tests/algo/test_linear_quantizer_config.c)
rq_test(tests/algo/test_linear_quantizer_mistakes.c)
rq_test(tests/algo/test_linear_quantizer_report.c)
rq_test(tests/algo/test_linear_quantizer_rules.c)
rq_test(tests/algo/test_linear_quantizer_steps.c)
rq_test(tests/algo/test_qat.c)
rq_test(tests/algo/test_linear_quantizer_departures.c)
target_sources(test_algo_linear_quantizer_departures PRIVATE tests/algo/linear_quantizer_nets.c)
rq_test(tests/algo/test_linear_quantizer_agree.c)
rq_test(tests/algo/test_linear_quantizer_place.c)
target_sources(test_algo_linear_quantizer_agree PRIVATE tests/algo/linear_quantizer_nets.c)
target_sources(test_algo_linear_quantizer_place PRIVATE tests/algo/linear_quantizer_nets.c)
rq_test(tests/algo/test_linear_quantizer_random.c)
target_sources(test_algo_linear_quantizer_random PRIVATE tests/algo/linear_quantizer_nets.c)
rq_test(tests/algo/test_qconfig_text.c)
rq_test(tests/algo/test_recipe.c)
rq_test(tests/algo/test_bench.c)
rq_test(tests/algo/test_losers.c)
rq_test(tests/algo/test_report.c)
rq_test(tests/algo/test_train.c)
rq_test(tests/algo/test_train_qat.c)
rq_test(tests/algo/test_weight_only.c)
rq_test(tests/coreml/test_activations.c)
rq_test(tests/coreml/test_activations_bad.c)
rq_test(tests/coreml/test_affine.c)
rq_test(tests/coreml/test_config.c)
rq_test(tests/coreml/test_layers.c)
rq_test(tests/coreml/test_linear.c)
rq_test(tests/oom/test_oom.c)
rq_test(tests/oom/test_train.c)

# Every backward against differences of its forward; one file of cases per family (tests/ops/grad_cases.inc lists them).
rq_test(tests/ops/test_grad.c)
target_sources(test_ops_grad PRIVATE
  tests/ops/grad_activations.c
  tests/ops/grad_attention.c
  tests/ops/grad_check.c
  tests/ops/grad_eltwise.c
  tests/ops/grad_layout.c
  tests/ops/grad_math.c
  tests/ops/grad_norm.c
  tests/ops/grad_pool.c
  tests/ops/grad_products.c
  tests/ops/grad_recurrent.c
  tests/ops/grad_reduce.c
  tests/ops/grad_resize.c
  tests/ops/grad_sample.c
  tests/ops/grad_training.c)

# Comparing with what other systems made (tests/golden), and having them read what we make (tests/interop). golden and
# rewrite print for themselves; interop exits with 77 when it is offline.
rq_test_tool(golden
  tests/golden/case_bad.c
  tests/golden/case_coreml.c
  tests/golden/case_grad.c
  tests/golden/case_model.c
  tests/golden/case_quant.c
  tests/golden/case_static.c
  tests/golden/compare.c
  tests/golden/coreml_program.c
  tests/golden/linear_quantizer_final.c
  tests/golden/linear_quantizer_nets.c
  tests/golden/guard.c
  tests/golden/levels.c
  tests/golden/quant_calibrators.c
  tests/golden/quant_fake_quantize.c
  tests/golden/quant_fake_quantizer.c
  tests/golden/quant_histogram_observer.c
  tests/golden/quant_learned.c
  tests/golden/quant_eager_qat.c
  tests/golden/quant_linear_quantizer.c
  tests/golden/quant_observers.c
  tests/golden/quant_tensor_quant.c
  tests/golden/run_golden.c
  tests/golden/scan.c
  tests/golden/static_params.c
  tests/golden/static_weights.c)
rq_test_tool(kernel_rows tests/determinism/kernel_rows.c)
rq_test_tool(rewrite tests/interop/rewrite.c)
rq_test_tool(rewrite_coreml tests/interop/rewrite_coreml.c)
target_include_directories(rewrite_coreml PRIVATE tests ${RQ_GEN})
rq_test_tool(run_onnx tests/golden/compare.c tests/golden/guard.c tests/golden/scan.c tests/onnx/not_run.c
  tests/onnx/onnx_case.c tests/onnx/run_onnx.c)
target_include_directories(run_onnx PRIVATE ${RQ_GEN})
add_test(NAME golden COMMAND tests/golden/run.sh $<TARGET_FILE:golden> tests/golden WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
add_test(NAME ops_peer COMMAND golden tests/ops/peer WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
find_package(Python3 COMPONENTS Interpreter)
add_test(NAME interop COMMAND ${Python3_EXECUTABLE} tests/interop/run.py ${CMAKE_BINARY_DIR} WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
add_test(NAME interop_coreml COMMAND ${Python3_EXECUTABLE} tests/interop/run.py ${CMAKE_BINARY_DIR} --coreml WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
set_tests_properties(interop_coreml PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 600)
add_test(NAME onnx_cases COMMAND ${Python3_EXECUTABLE} tests/onnx/run.py ${CMAKE_BINARY_DIR} WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
add_test(NAME onnx_coreml COMMAND ${Python3_EXECUTABLE} tests/onnx/coreml.py ${CMAKE_BINARY_DIR} WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
set_tests_properties(onnx_coreml PROPERTIES DEPENDS "onnx_cases;interop_coreml") # which make the cases and the environment
set_tests_properties(interop onnx_cases onnx_coreml PROPERTIES SKIP_RETURN_CODE 77 RESOURCE_LOCK interop_venv)
add_test(NAME light COMMAND ${Python3_EXECUTABLE} tests/onnx/light.py ${CMAKE_BINARY_DIR} squeezenet shufflenet WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
set_tests_properties(light PROPERTIES SKIP_RETURN_CODE 77 DEPENDS onnx_cases TIMEOUT 600)
string(REPLACE ";" " " RQ_EMULATOR "${CMAKE_CROSSCOMPILING_EMULATOR}")
add_test(NAME determinism COMMAND tests/determinism/run.sh ${RQ_TEST_TMP} 32 "${RQ_EMULATOR} $<TARGET_FILE:requant>" WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
add_test(NAME matrix COMMAND ${Python3_EXECUTABLE} tests/determinism/matrix.py --pattern "onnx/qdq/*" --pattern "onnx/static_quant/*_qop*" --pattern "coreml/w8a8/*" ${CMAKE_BINARY_DIR} WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
set_tests_properties(golden interop onnx_cases onnx_coreml determinism PROPERTIES TIMEOUT 600)
add_test(NAME kill COMMAND tests/cli/kill.sh $<TARGET_FILE:requant> 1 WORKING_DIRECTORY ${CMAKE_SOURCE_DIR}) # ten times: make check
add_test(NAME transcripts COMMAND tests/cli/run.sh $<TARGET_FILE:requant> WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
add_test(NAME readme COMMAND tools/readme.sh $<TARGET_FILE:requant> WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
add_test(NAME install COMMAND tests/install/test_install.sh ${CMAKE_BINARY_DIR} ${CMAKE_C_COMPILER} WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
# nothing of ours runs instrumented in the first three; what the others and interop run, instrumented tests run too, and these take minutes there;
# run_strings defines strcmp, and so do sanitizers
set_tests_properties(headers layers install determinism matrix light kill run_strings PROPERTIES LABELS nosan)
set_tests_properties(golden oom_oom kernels_products_f32 transcripts onnx_cases onnx_coreml PROPERTIES LABELS slow) # not with the other compiler
set_tests_properties(interop interop_coreml PROPERTIES LABELS "nosan;slow")
if(CMAKE_CROSSCOMPILING) # tests of files and of words start the command themselves, without the emulator
  set_tests_properties(interop interop_coreml onnx_cases onnx_coreml light transcripts readme install matrix PROPERTIES DISABLED TRUE)
  set_tests_properties(golden determinism kernels_products_f32 PROPERTIES TIMEOUT 1800)
endif()
if(NOT RQ_FUZZ)
  include(cmake/fuzz.cmake)
endif()
