"""Every code block of the five guides, in their order: its first line, and the tests that run it in Python spelling.

models_and_layers.pt.md is the Portuguese twin of models_and_layers.md: prose translated, the code blocks the same.
"""

M, T, K, B, C = (
    f"tests.guides.test_{name}"
    for name in ("models_and_layers", "training_models", "for_keras_users", "book_chapter_6", "book_cnn")
)

MODELS_AND_LAYERS = [
    ("const model = tf.sequential({", f"{M}:test_three_ways_to_the_same_model {M}:test_summary"),
    ("const model = tf.sequential();", f"{M}:test_three_ways_to_the_same_model {M}:test_summary"),
    ("// Create an arbitrary graph of layers, by connecting them",
     f"{M}:test_three_ways_to_the_same_model {M}:test_symbolic_apply_gives_symbolic_tensors"),
    ("const t = tf.tensor([-2, 1, 0, 5]);", f"{M}:test_eager_activation_prints"),
    ("const saveResult = await model.save('localstorage://my-model-1');", f"{M}:test_save_and_load"),
    ("class SquaredSumLayer extends tf.layers.Layer {", f"{M}:test_custom_layer_prints_30"),
    ("const t = tf.tensor([-2, 1, 0, 5]);", f"{M}:test_custom_layer_prints_30"),
    ("// The weights and biases for the two dense layers.", f"{M}:test_core_api_model"),
]  # fmt: skip
GUIDES: dict[str, list[tuple[str, str]]] = {
    "models_and_layers.md": MODELS_AND_LAYERS,
    "models_and_layers.pt.md": MODELS_AND_LAYERS,
    "training_models.md": [
        ("const model = tf.sequential({", f"{T}:test_weights_by_name {T}:test_summary"),
        ("model.weights.forEach(w => {", f"{T}:test_weights_by_name"),
        ("> dense_Dense1/kernel [784, 32]", f"{T}:test_weights_by_name"),
        ("model.weights.forEach(w => {", f"{T}:test_assign_weights"),
        ("model.compile({", f"{T}:test_fit"),
        ("// Generate dummy data.", f"{T}:test_fit {T}:test_fit_in_camel_case_and_async"),
        ("function* data() {", f"{T}:test_fit_dataset {T}:test_fit_dataset_async"),
        ("// Predict 3 random samples.", f"{T}:test_predict"),
        ("// The weights and biases for the two dense layers.", f"{T}:test_core_api_training_loop"),
        ("const xs = tf.data.generator(data);", f"{T}:test_core_api_training_loop"),
        ("const optimizer = tf.train.sgd(0.1 /* learningRate */);",
         f"{T}:test_core_api_training_loop {T}:test_core_api_loop_learns"),
    ],
    "layers_for_keras_users.md": [
        ("# Python:", f"{K}:test_linear_regression {K}:test_integer_arrays_as_in_keras"),
        ("// JavaScript:", f"{K}:test_linear_regression"),
        ("# Python:", f"{K}:test_two_spellings_of_one_layer"),
        ("// JavaScript:", f"{K}:test_two_spellings_of_one_layer"),
        ("// JavaScript:", f"{K}:test_linear_regression"),
        ("# Python:", f"{K}:test_integer_arrays_as_in_keras"),
        ("// JavaScript:", f"{K}:test_tensor2d"),
        ("# Python:", f"{K}:test_factories_and_classes"),
        ("// JavaScript:", f"{K}:test_factories_and_classes"),
        ("// JavaScript:", f"{K}:test_factories_and_classes"),
        ("// JavaScript:", f"{K}:test_linear_regression"),
        ("# Python:", f"{K}:test_layers_called_as_functions"),
        ("// JavaScript:", f"{K}:test_apply_on_symbols"),
        ("// JavaScript:", f"{K}:test_apply_on_tensors"),
        ("# Python:", f"{K}:test_optimizer_spellings"),
        ("// JavaScript:", f"{K}:test_optimizer_spellings"),
        ("// JavaScript:", f"{K}:test_load_layers_model"),
    ],
    "book_chapter_6_layers_api.md": [
        ("const model = tf.sequential();", f"{B}:test_figure_6_1"),
        ("const predict = async () => {", f"{B}:test_figure_6_2"),
        ("/*", f"{B}:test_figure_6_3"),
        ('model.summary(30, [100, 50, 25], x => console.log("output: " + x));', f"{B}:test_figure_6_4"),
        ("const model = tf.sequential();", f"{C}:test_small_network"),
        ("model.add(", f"{C}:test_small_network"),
        ("model.add(", f"{C}:test_small_network"),
        ("model.add(", f"{C}:test_small_network"),
        ("const LEARNING_RATE = 0.15;", f"{C}:test_small_network"),
        ("model.compile({", f"{C}:test_small_network_learns_batch_by_batch"),
        ("const BATCH_SIZE = 64;", f"{C}:test_small_network_on_mnist"),
        ("// App.js", f"{C}:test_small_network_learns_batch_by_batch {C}:test_small_network_on_mnist"),
        ("/*", f"{C}:test_summary {C}:test_large_network_on_mnist {C}:test_save_and_load"),
    ],
}  # fmt: skip
