# Ten kinds of litter at 512x512 on one GPU: someone's data in the layout of COCO.
_base_ = ['two_stage.py', 'coco.py', 'runtime.py']
classes = ('General trash', 'Paper', 'Paper pack', 'Metal', 'Glass', 'Plastic', 'Styrofoam', 'Plastic bag', 'Battery',
           'Clothing')
root = 'dataset/'
img_norm_cfg = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', img_scale=(512, 512), keep_ratio=True),
    dict(type='RandomFlip', flip_ratio=0.5),
    dict(type='Normalize', **img_norm_cfg),
    dict(type='Pad', size_divisor=32),
    dict(type='DefaultFormatBundle'),
    dict(type='Collect', keys=['img', 'gt_bboxes', 'gt_labels']),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='MultiScaleFlipAug', img_scale=(512, 512), flip=False,
        transforms=[
            dict(type='Resize', keep_ratio=True),
            dict(type='RandomFlip'),
            dict(type='Normalize', **img_norm_cfg),
            dict(type='Pad', size_divisor=32),
            dict(type='ImageToTensor', keys=['img']),
            dict(type='Collect', keys=['img']),
        ]),
]
model = dict(roi_head=dict(bbox_head=dict(num_classes=10)))
data = dict(
    samples_per_gpu=4,
    train=dict(classes=classes, img_prefix=root, ann_file=root + 'train.json', pipeline=train_pipeline),
    val=dict(classes=classes, img_prefix=root, ann_file=root + 'val.json', pipeline=test_pipeline),
    test=dict(classes=classes, img_prefix=root, ann_file=root + 'test.json', pipeline=test_pipeline))
optimizer_config = dict(_delete_=True, grad_clip=dict(max_norm=35, norm_type=2))
checkpoint_config = dict(max_keep_ckpts=3, interval=1)
seed = 2021
gpu_ids = [0]
work_dir = './work_dirs/trash'
